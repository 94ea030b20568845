"""Contamination: training rows that repeat questions of an evaluation or validation set.

Used by `doctor --eval`, `compare --eval` and methods with a validation target. A question is
compared together with the decoded pixels of its images and the files of its videos; answers and
image files do not matter. A conversation matches if any of its questions does. A later question of
a text-only conversation is compared together with those before it ("Why?" alone is not specific).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.console.formatting import pluralize
from thresher.console.progress import NoProgress, Progress
from thresher.duplicates import image, text
from thresher.duplicates.near import near_images, near_texts
from thresher.duplicates.signals import iter_image_signatures
from thresher.engine.eligible import commonest
from thresher.errors import ImageError
from thresher.extras import install_command, missing_modules, require
from thresher.pools.chat import VIDEO_PLACEHOLDER
from thresher.types import RowError, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from thresher.pools import Pool

Kind = Literal["exact", "re-encoded", "near"]
KINDS: tuple[Kind, ...] = ("exact", "re-encoded", "near")
BATCH_ROWS = 4096  # read at once
# similarity of two questions; lower than for duplicates: a missed match is worse than a dropped row
MIN_SIMILARITY = 0.7


@dataclass(frozen=True)
class Contamination:
    """A row of the pool and the first row of the other pool that it repeats.

    kind: "exact" = the same question (except case and white space) about the same pixels and video
    files;
    "re-encoded" = the same question about an image that was saved again or resized; "near" = a
    similarly worded question about the same or a re-encoded image.
    """

    row: int
    other_row: int
    kind: Kind


@dataclass(frozen=True)
class ContaminationCheck:
    """Which rows repeat questions, and which could not be compared.

    found: by row; of several matches the most exact.
    unchecked: row of the pool -> why it was not compared.
    other_unchecked: the same of the other pool.
    """

    found: list[Contamination]
    unchecked: Mapping[int, str]
    other_unchecked: Mapping[int, str]


@dataclass
class _Units:
    """Questions of a pool, one entry each, with the images and videos of their row."""

    row: list[int] = field(default_factory=list)
    question: list[str] = field(default_factory=list)
    # contents of the images, then of the videos
    images: list[tuple[bytes, ...]] = field(default_factory=list)
    marks: dict[bytes, np.ndarray] = field(default_factory=dict)  # content -> MARK scalar
    videos: set[bytes] = field(default_factory=set)  # contents
    unchecked: dict[int, str] = field(default_factory=dict)  # row -> why it is not compared


def only_exact_note() -> str:
    """The note for installations that find exact matches only; "" if near ones are found too."""
    missing = missing_modules("duplicates")
    if not missing:
        return ""
    return (
        "Only exact copies of questions were searched, not reworded ones or re-encoded images: "
        f"those need {' and '.join(missing)} ({install_command('duplicates')})."
    )


def unchecked_note(unchecked: Mapping[int, str], rows: int, name: str) -> str:
    """A sentence about the rows that were not compared; "" if all were.

    Arguments:
        unchecked: row -> why.
        rows: number of rows of the pool.
        name: of the pool, for the message.
    """
    if not unchecked:
        return ""
    return (
        f"{len(unchecked):,} of {pluralize(rows)} of {name} could not be compared, so a leak of "
        f"them is not found: {commonest(Counter(unchecked.values()))}."
    )


def find_contamination(
    pool: Pool, other: Pool, near: bool | None = True, *, progress: Progress | None = None
) -> list[Contamination]:
    """`check_contamination`, without the rows that could not be compared.

    Arguments:
        pool, other, near, progress: as for `check_contamination`.
    """
    return check_contamination(pool, other, near, progress=progress).found


def check_contamination(
    pool: Pool, other: Pool, near: bool | None = True, *, progress: Progress | None = None
) -> ContaminationCheck:
    """Rows of `pool` that repeat a question of `other`, and rows that could not be compared.

    Reads every image of both pools, and of every video file at most 3 MiB. Rows with audio, with
    unreadable images or videos, and unreadable records are not compared.

    Arguments:
        pool: training rows.
        other: evaluation rows.
        near: True: also "re-encoded" and "near". False: only "exact". None: whatever is installed.
        progress: receives progress reports.

    Raises MissingExtra, before anything is read, if `near` is True and a package is missing.
    """
    if near is None:
        near = not missing_modules("duplicates")
    if near:
        require("duplicates", "Searching for near copies of questions")
    progress = progress or NoProgress()
    signature = image.image_signature if near else image.content_signature
    ours = _units(pool, "reading the pool", progress, signature)
    theirs = _units(other, "reading the other pool", progress, signature)
    found: dict[int, tuple[int, int]] = {}  # row -> (place in KINDS, row of the other)

    def keep(row: int, other_row: int, kind: int) -> None:
        found[row] = min(found.get(row, (kind, other_row)), (kind, other_row))

    by_key: dict[tuple[str, tuple[bytes, ...]], int] = {}
    for row, question, images in zip(theirs.row, theirs.question, theirs.images, strict=True):
        by_key.setdefault((question, images), row)
    for row, question, images in zip(ours.row, ours.question, ours.images, strict=True):
        match = by_key.get((question, images))
        if match is not None:
            keep(row, match, 0)
    if near:
        for i, j, kind in _near(ours, theirs):
            keep(ours.row[i], theirs.row[j], kind)
    matches = [
        Contamination(row, other_row, KINDS[kind])
        for row, (kind, other_row) in sorted(found.items())
    ]
    return ContaminationCheck(matches, ours.unchecked, theirs.unchecked)


def _units(
    pool: Pool, label: str, progress: Progress, signature: Callable[[Image], image.ImageSignature]
) -> _Units:
    out = _Units()
    known: dict[str, image.ImageSignature | str] = {}  # the rows of an image may be far apart
    keys: dict[str, bytes | str] = {}  # the same for videos
    progress.start(label, len(pool), 0)
    try:
        for start in range(0, len(pool), BATCH_ROWS):
            rows = np.arange(start, min(start + BATCH_ROWS, len(pool)))
            samples = pool.samples(rows)
            videos = {}
            for i in np.flatnonzero(pool.facts["video"][rows]).tolist():
                samples[i], videos[i] = _without_videos(pool, int(rows[i]), keys)
            for first, by_row in iter_image_signatures(samples, pool, signature, known):
                for i, signatures in enumerate(by_row, first):
                    contents = videos.get(i, ())
                    if reason := _not_comparable(samples[i], signatures, contents):
                        out.unchecked[int(rows[i])] = reason
                        continue
                    assert not isinstance(signatures, str) and not isinstance(contents, str)
                    out.videos.update(contents)
                    for signature_of_image in signatures:
                        if signature_of_image.mark:
                            mark = np.frombuffer(signature_of_image.mark, image.PERCEPTUAL)[0]
                            out.marks[signature_of_image.content] = mark
                    for question in questions(samples[i], len(contents)):
                        out.row.append(int(rows[i]))
                        out.question.append(question)
                        out.images.append((*(x.content for x in signatures), *contents))
                progress.advance(len(by_row))
    finally:
        progress.finish()
    return out


def _without_videos(
    pool: Pool, row: int, keys: dict[str, bytes | str]
) -> tuple[Sample, tuple[bytes, ...] | str]:
    """A row with its images only, and the contents of its videos or why one cannot be read.

    `keys`: identity of a video -> its content or error, extended by this call.
    """
    sample, refs = pool.sample_and_videos(row)
    for ref in refs:
        if ref.identity not in keys:
            try:
                keys[ref.identity] = pool.video_key(ref)
            except ImageError as error:
                keys[ref.identity] = str(RowError.of(error))
    contents = []
    others = tuple(medium for medium in sample.media if not medium.startswith("video:"))
    sample = replace(sample, media=others)
    for ref in refs:
        content = keys[ref.identity]
        if isinstance(content, str):
            return sample, content
        contents.append(content)
    return sample, tuple(contents)


def _not_comparable(
    sample: Sample,
    signatures: list[image.ImageSignature] | str,
    contents: tuple[bytes, ...] | str,
) -> str:
    """Why a row is not compared; "" if it is.

    `signatures`: of its images, `contents`: of its videos; or why one cannot be read.
    """
    if RowError.parse(sample.problem).kind == "unreadable":
        return sample.problem
    if isinstance(contents, str):
        return contents
    if sample.media:
        return "it has audio, or an image in a form that is not read"
    return signatures if isinstance(signatures, str) else ""


def questions(sample: Sample, videos: int = 0) -> list[str]:
    """A row's questions, normalised. Empty ones count if the row has images or videos.

    Arguments:
        sample: the row, with its images.
        videos: the number of its videos.
    """
    texts = [t.text for t in sample.turns if t.role in ("user", "unknown")]
    visual = bool(sample.images or videos)
    if not visual:  # text only: together with the earlier questions
        texts = ["\n".join(texts[: i + 1]) for i in range(len(texts))]
    if videos:
        texts = [given.replace(VIDEO_PLACEHOLDER, " ") for given in texts]
    return [q for q in dict.fromkeys(text.normalise_question(a) for a in texts) if q or visual]


def _near(ours: _Units, theirs: _Units) -> Iterator[tuple[int, int, int]]:
    """(index in ours, index in theirs, index in KINDS) of near matches."""
    distinct = {q: i for i, q in enumerate(dict.fromkeys(ours.question + theirs.question))}
    signature = text.signatures(distinct)
    yield from _text_only_matches(ours, theirs, distinct, signature)
    similar = _similar_images(ours, theirs)
    our_rows, their_rows = _by_first(ours), _by_first(theirs)
    for a, b in similar:  # a dict keeps its order
        for i in our_rows.get(a, []):
            for j in their_rows.get(b, []):
                if not _same_others(ours.images[i], theirs.images[j], similar):
                    continue
                p, q = distinct[ours.question[i]], distinct[theirs.question[j]]
                if p == q:
                    yield i, j, 1
                elif float(text.similarity(signature[[p]], signature[[q]])[0]) >= MIN_SIMILARITY:
                    yield i, j, 2


def _text_only_matches(
    ours: _Units, theirs: _Units, distinct: dict[str, int], signature: np.ndarray
) -> Iterator[tuple[int, int, int]]:
    plain = [[i for i, images in enumerate(units.images) if not images] for units in (ours, theirs)]
    if not plain[0] or not plain[1]:
        return
    numbers = sorted(
        {
            distinct[u.question[i]]
            for u, indices in zip((ours, theirs), plain, strict=True)
            for i in indices
        }
    )
    index_of = {number: i for i, number in enumerate(numbers)}
    similar_to: dict[int, list[int]] = {i: [] for i in range(len(numbers))}
    for a, b in near_texts(signature[numbers], threshold=MIN_SIMILARITY).tolist():
        similar_to[a].append(b)
        similar_to[b].append(a)
    first_of_theirs: dict[int, int] = {}
    for j in plain[1]:
        first_of_theirs.setdefault(index_of[distinct[theirs.question[j]]], j)
    for i in plain[0]:
        for b in similar_to[index_of[distinct[ours.question[i]]]]:
            if b in first_of_theirs:
                yield i, first_of_theirs[b], 2


def _similar_images(ours: _Units, theirs: _Units) -> dict[tuple[bytes, bytes], bool]:
    """(content of ours, content of theirs) of similar images and equal videos, equal images
    included; in a fixed order.
    """
    contents = sorted(ours.marks.keys() | theirs.marks.keys())
    out = {(c, c): True for c in contents if c in ours.marks and c in theirs.marks}
    out |= {(c, c): True for c in sorted(ours.videos & theirs.videos)}
    if contents:
        marks = np.array(
            [ours.marks[c] if c in ours.marks else theirs.marks[c] for c in contents],
            image.PERCEPTUAL,
        )
        for a, b in near_images(marks).tolist():
            for x, y in ((contents[a], contents[b]), (contents[b], contents[a])):
                if x in ours.marks and y in theirs.marks:
                    out[x, y] = True
    return out


def _by_first(units: _Units) -> dict[bytes, list[int]]:
    out: dict[bytes, list[int]] = {}
    for i, images in enumerate(units.images):
        if images:
            out.setdefault(images[0], []).append(i)
    return out


def _same_others(
    a: tuple[bytes, ...], b: tuple[bytes, ...], similar: dict[tuple[bytes, bytes], bool]
) -> bool:
    return len(a) == len(b) and all((x, y) in similar for x, y in zip(a[1:], b[1:], strict=True))
