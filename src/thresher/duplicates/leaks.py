"""The one leak finder: training rows that repeat questions of an evaluation or a validation set.

`doctor --eval`, `compare --eval` and methods that aim at a validation set all ask here. What is
compared is a question with the decoded pixels of its images, whatever the answer and wherever the
files are: a conversation leaks if any of its questions does. A later question of a text-only
conversation counts together with those before it ("Why?" alone says nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.console.progress import Progress, Silent
from thresher.duplicates import image, text
from thresher.duplicates.near import near_images, near_texts
from thresher.duplicates.signals import in_pieces
from thresher.extras import install, missing, require
from thresher.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from thresher.pools import Pool

Kind = Literal["exact", "re-encoded", "near"]
KINDS: tuple[Kind, ...] = ("exact", "re-encoded", "near")
ROWS = 4096  # read at once
SIMILAR = 0.7  # of two questions: less than for copies, because a question given away costs more than a row left out


@dataclass(frozen=True)
class Leak:
    """A row of the pool and the first row of the other pool that it repeats.

    kind: "exact" = the same question (but for case and white space) about the same pixels; "re-encoded" = the same
    question about a picture that was saved again or resized; "near" = a question of nearly the same words about the
    same or a re-encoded picture.
    """

    row: int
    other_row: int
    kind: Kind


@dataclass
class _Units:
    """Questions of a pool: one entry a question. A question's pictures are those of its row."""

    row: list[int]
    question: list[str]
    images: list[tuple[bytes, ...]]  # contents
    marks: dict[bytes, np.ndarray]  # content -> MARK scalar


def only_exact_note() -> str:
    """What to tell a user whose installation finds exact leaks only; "" where near ones are found."""
    lacking = missing("duplicates")
    if not lacking:
        return ""
    return (
        "Only exact copies of questions were looked for, not reworded ones or re-encoded images: "
        f"these need {' and '.join(lacking)} ({install('duplicates')})."
    )


def find_leaks(pool: Pool, other: Pool, near: bool | None = True, *, progress: Progress | None = None) -> list[Leak]:
    """Rows of `pool` that repeat a question of `other`, by row; of several matches the most exact.

    Rows with images that cannot be read, and records that cannot be, match nothing. Reads every
    image of both pools.

    near: also "re-encoded" and "near". False: only "exact". None: what is installed.

    Raises MissingExtra before anything is read if `near` is True and a package is missing.
    """
    if near is None:
        near = not missing("duplicates")
    if near:
        require("duplicates", "Looking for near copies of questions")
    progress = progress or Silent()
    look = image.look if near else image.only_content
    mine = _units(pool, "reading the pool", progress, look)
    theirs = _units(other, "reading the other pool", progress, look)
    found: dict[int, tuple[int, int]] = {}  # row -> (place in KINDS, row of the other)

    def keep(row: int, other_row: int, kind: int) -> None:
        found[row] = min(found.get(row, (kind, other_row)), (kind, other_row))

    by_key: dict[tuple[str, tuple[bytes, ...]], int] = {}
    for row, asked, images in zip(theirs.row, theirs.question, theirs.images, strict=True):
        by_key.setdefault((asked, images), row)
    for row, asked, images in zip(mine.row, mine.question, mine.images, strict=True):
        hit = by_key.get((asked, images))
        if hit is not None:
            keep(row, hit, 0)
    if near:
        for i, j, kind in _near(mine, theirs):
            keep(mine.row[i], theirs.row[j], kind)
    return [Leak(row, other_row, KINDS[kind]) for row, (kind, other_row) in sorted(found.items())]


def _units(pool: Pool, label: str, progress: Progress, look: Callable[[Image], image.Look]) -> _Units:
    out = _Units([], [], [], {})
    progress.start(label, len(pool), 0)
    try:
        for start in range(0, len(pool), ROWS):
            rows = np.arange(start, min(start + ROWS, len(pool)))
            samples = pool.samples(rows)
            for first, seen in in_pieces(samples, pool, look):
                for at, looks in enumerate(seen, first):
                    if isinstance(looks, str) or samples[at].problem.startswith("unreadable"):
                        continue
                    for seen_image in looks:
                        if seen_image.mark:
                            mark = np.frombuffer(seen_image.mark, image.MARK)[0]
                            out.marks[seen_image.content] = mark
                    for asked in questions(samples[at]):
                        out.row.append(int(rows[at]))
                        out.question.append(asked)
                        out.images.append(tuple(x.content for x in looks))
                progress.advance(len(seen))
    finally:
        progress.finish()
    return out


def questions(sample: Sample) -> list[str]:
    """The questions of a row in normal form.

    An empty one counts if the row has images: what is asked is then what the images show.
    """
    asked = [t.text for t in sample.turns if t.role in ("user", "unknown")]
    if not sample.images:  # text only: with what was asked before
        asked = ["\n".join(asked[: i + 1]) for i in range(len(asked))]
    return [q for q in dict.fromkeys(text.question(a) for a in asked) if q or sample.images]


def _near(mine: _Units, theirs: _Units) -> Iterator[tuple[int, int, int]]:
    """(unit of mine, unit of theirs, place in KINDS) of near matches."""
    different = {q: i for i, q in enumerate(dict.fromkeys(mine.question + theirs.question))}
    signature = text.signatures(different)
    yield from _without_pictures(mine, theirs, different, signature)
    alike = _alike(mine, theirs)
    here, there = _by_first(mine), _by_first(theirs)
    for a, b in alike:  # a dict keeps its order
        for i in here.get(a, []):
            for j in there.get(b, []):
                if not _same_others(mine.images[i], theirs.images[j], alike):
                    continue
                p, q = different[mine.question[i]], different[theirs.question[j]]
                if p == q:
                    yield i, j, 1
                elif float(text.similarity(signature[[p]], signature[[q]])[0]) >= SIMILAR:
                    yield i, j, 2


def _without_pictures(
    mine: _Units, theirs: _Units, different: dict[str, int], signature: np.ndarray
) -> Iterator[tuple[int, int, int]]:
    plain = [[i for i, images in enumerate(units.images) if not images] for units in (mine, theirs)]
    if not plain[0] or not plain[1]:
        return
    numbers = sorted({different[u.question[i]] for u, at in zip((mine, theirs), plain, strict=True) for i in at})
    place = {number: i for i, number in enumerate(numbers)}
    beside: dict[int, list[int]] = {i: [] for i in range(len(numbers))}
    for a, b in near_texts(signature[numbers], threshold=SIMILAR).tolist():
        beside[a].append(b)
        beside[b].append(a)
    theirs_at: dict[int, int] = {}
    for j in plain[1]:
        theirs_at.setdefault(place[different[theirs.question[j]]], j)
    for i in plain[0]:
        for b in beside[place[different[mine.question[i]]]]:
            if b in theirs_at:
                yield i, theirs_at[b], 2


def _alike(mine: _Units, theirs: _Units) -> dict[tuple[bytes, bytes], bool]:
    """(content of mine, content of theirs) of pictures that are alike, equal ones among them; in a fixed order."""
    contents = sorted(mine.marks.keys() | theirs.marks.keys())
    out = {(c, c): True for c in contents if c in mine.marks and c in theirs.marks}
    if contents:
        marks = np.array([mine.marks[c] if c in mine.marks else theirs.marks[c] for c in contents], image.MARK)
        for a, b in near_images(marks).tolist():
            for x, y in ((contents[a], contents[b]), (contents[b], contents[a])):
                if x in mine.marks and y in theirs.marks:
                    out[x, y] = True
    return out


def _by_first(units: _Units) -> dict[bytes, list[int]]:
    out: dict[bytes, list[int]] = {}
    for i, images in enumerate(units.images):
        if images:
            out.setdefault(images[0], []).append(i)
    return out


def _same_others(a: tuple[bytes, ...], b: tuple[bytes, ...], alike: dict[tuple[bytes, bytes], bool]) -> bool:
    return len(a) == len(b) and all((x, y) in alike for x, y in zip(a[1:], b[1:], strict=True))
