"""What one pass over a pool file finds out: columns, one value a row, and the table of images.

Everything is flat numpy (about 150 bytes a row), so that a pool of millions stays small and can be cached as it is
(`cache.py`). Reads the pool file and asks the size of each image once; decodes no image.
"""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from thresher.errors import PoolError
from thresher.pools import llava
from thresher.pools.paths import refusal, shown
from thresher.pools.records import EXPECTED, records, sniff
from thresher.pools.texts import Texts, TextsBuilder
from thresher.types import DIGEST

Advance = Callable[[int], None]  # called with the number of rows read since the last call
RAW_KEPT = 1 << 20  # bytes of an unreadable record that stand in for it
TICK = 20_000_000  # ns: two changes closer than this may carry the same time stamp


@dataclass(frozen=True)
class Index:
    """n rows, m different images, p different problems. Arrays may be read-only."""

    kind: str  # "json" | "jsonl"
    offset: np.ndarray  # int64 [n]: first byte of the record
    length: np.ndarray  # int32 [n]: its bytes
    digest: np.ndarray  # DIGEST [n]
    order: np.ndarray  # int64 [n]: by digest, then canonical record, then row
    source: np.ndarray  # int32 [n], into source_names (sorted by name)
    source_names: Texts
    ids: Texts  # [n]
    flags: np.ndarray  # uint8 [n]: llava.py's bits
    problem: np.ndarray  # int32 [n], into problem_texts; -1 = none
    problem_texts: Texts
    answer_words: np.ndarray  # int32 [n]: whitespace-separated words of all answers
    answer_chars: np.ndarray  # int32 [n]
    turns: np.ndarray  # int32 [n]: messages of any role
    video: np.ndarray  # bool [n]
    image_end: np.ndarray  # int64 [n]: row i holds image_ref[image_end[i-1] : image_end[i]]
    image_ref: np.ndarray  # int32 [references], into the table of images
    image_path: Texts  # [m], as the user wrote them, in order of appearance
    image_size: np.ndarray  # int64 [m]: bytes on disk, -1 = no such file, or a path that may not be read


class _Images:
    """The table of images: each path looked up once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.number: dict[str, int] = {}
        self.size = array("q")
        self.identity: list[str] = []

    def look_up(self, path: str) -> int:
        number = len(self.size)
        self.number[path] = number
        size = -1
        if not refusal(path):
            size = file_size(os.path.join(self.folder, path))
        self.size.append(size)
        self.identity.append(f"file:{path}:{size}")  # ImageRef.identity
        return number


def file_size(path: str | bytes, folder: int | None = None) -> int:
    """Bytes of a file, -1 where there is none. `folder`: the open folder (a descriptor) that `path` starts from."""
    try:
        about = os.stat(path, dir_fd=folder)
        return about.st_size if stat.S_ISREG(about.st_mode) else -1
    except (OSError, ValueError):
        return -1


def images_as_they_were(index: Index, folder: str) -> bool:
    """Whether every image under `folder` has the size that `index` knows: none came, went or was overwritten.

    One `stat` an image, about 3 microseconds on a local disk. The times of folders would not do: overwriting a file in
    place leaves them alone. A file overwritten by one of the same size is not noticed, here as in `ImageRef.identity`.
    """
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False  # it may only be passed through: look each image up again
    try:
        blob = index.image_path.blob.tobytes()
        start = 0
        for end, size in zip(index.image_path.ends.tolist(), index.image_size.tolist(), strict=True):
            raw = blob[start:end]
            start = end
            # ASCII is the same bytes on disk; other text is given to the system as text, as at the first look
            path = raw if raw.isascii() else raw.decode("utf-8", "surrogatepass")
            if size < 0 and refusal(raw.decode("utf-8", "surrogatepass")):
                continue  # never looked up
            if file_size(path, root) != size:
                return False
        return True
    finally:
        os.close(root)


def settle_after(mtime: int) -> None:
    """Wait (at most 20 ms) until a further change is sure to get another time stamp than `mtime`."""
    age = time.time_ns() - mtime
    if 0 <= age < TICK:
        time.sleep((TICK - age) / 1e9)


def build(file: BinaryIO, name: str, stem: str, images_folder: str, advance: Advance | None = None) -> Index:
    """Read the whole pool. `stem`: the source of rows that name none; `advance(rows)` is called now and then.

    Raises PoolError where the file is not a pool of LLaVA rows.
    """
    kind = sniff(file, name)
    images = _Images(images_folder)
    numbers, identities, look_up = images.number, images.identity, images.look_up
    offset, length, problem, words, chars, turns = (
        array("q"),
        array("i"),
        array("i"),
        array("i"),
        array("i"),
        array("i"),
    )
    flags, video = bytearray(), bytearray()
    digest = bytearray()
    source, image_ref, image_end = array("i"), array("i"), array("q")
    sources: dict[str, int] = {}
    problems: dict[str, int] = {}
    ids = TextsBuilder()
    usable = 0
    first_problem = ""
    told = 0

    for at, size, value, broken in records(file, kind, name):
        if (
            broken
            or type(value) is not dict
            or type(value.get("conversations")) is not list
            or not value["conversations"]
        ):
            roles, texts, paths, src, wrong, flag, has_video = llava.parse(value, broken, _raw(file, at, size))
            first_problem = first_problem or wrong
        else:
            roles, texts, paths, src, wrong, flag, has_video = llava.parse(value, "", "")
            usable += 1
        offset.append(at)
        length.append(size)
        ids.append(llava.record_id(value))
        src = src or stem
        code = sources.get(src)
        if code is None:
            code = sources[src] = len(sources)
        source.append(code)
        flags.append(flag)
        video.append(has_video)
        problem.append(problems.setdefault(wrong, len(problems)) if wrong else -1)
        turns.append(len(roles))
        w = c = 0
        for role, text in zip(roles, texts, strict=True):
            if role == "assistant":
                w += len(text.split())
                c += len(text)
        words.append(w)
        chars.append(c)
        if paths:
            refs = [numbers[path] if path in numbers else look_up(path) for path in paths]
            image_ref.extend(refs)
            digest += llava.digest(roles, texts, [identities[r] for r in refs])
        else:
            digest += llava.digest(roles, texts, [])
        image_end.append(len(image_ref))
        if advance is not None and len(length) - told >= 10_000:
            advance(len(length) - told)
            told = len(length)

    n = len(offset)
    if advance is not None and n > told:
        advance(n - told)
    if n == 0:
        raise PoolError(f"{name} holds no rows: {EXPECTED}.")
    if usable == 0:
        raise PoolError(_nothing_usable(file, name, n, first_problem))
    names = sorted(sources)  # not in order of appearance: shuffling a pool must not renumber its sources
    rank = np.empty(len(names), np.int32)
    rank[[sources[s] for s in names]] = np.arange(len(names), dtype=np.int32)
    digests = np.frombuffer(bytes(digest), DIGEST)
    offsets, lengths = _array(offset), _array(length)
    return Index(
        kind=kind,
        offset=offsets,
        length=lengths,
        digest=digests,
        order=canonical_order(digests, lambda row: _canonical(file, int(offsets[row]), int(lengths[row]))),
        source=rank[_array(source)],
        source_names=Texts.of(names),
        ids=ids.done(),
        flags=np.frombuffer(bytes(flags), np.uint8),
        problem=_array(problem),
        problem_texts=Texts.of(problems),
        answer_words=_array(words),
        answer_chars=_array(chars),
        turns=_array(turns),
        video=np.frombuffer(bytes(video), np.bool_),
        image_end=_array(image_end),
        image_ref=_array(image_ref),
        image_path=Texts.of(images.number),
        image_size=_array(images.size),
    )


def canonical_order(digest: np.ndarray, canonical: Callable[[int], bytes]) -> np.ndarray:
    """int64 [n]: rows by digest; rows of equal digest by `canonical(row)`, then by row."""
    words = np.ascontiguousarray(digest).view(">u8").reshape(len(digest), 4).astype(np.uint64)
    order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0])).astype(np.int64)
    same = np.r_[False, (words[order][1:] == words[order][:-1]).all(axis=1), False]
    starts = np.flatnonzero(~same[:-1] & same[1:])
    stops = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        rows = order[start:stop].tolist()
        order[start:stop] = sorted(rows, key=lambda row: (canonical(row), row))
    return order


def _array(values: array[int]) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.dtype(values.typecode))


def _raw(file: BinaryIO, offset: int, length: int) -> str:
    return os.pread(file.fileno(), min(length, RAW_KEPT), offset).decode("utf-8", "surrogateescape")


def _canonical(file: BinaryIO, offset: int, length: int) -> bytes:
    raw = os.pread(file.fileno(), length, offset)
    return llava.canonical_record(llava.decode(raw), raw)


def _nothing_usable(file: BinaryIO, name: str, n: int, first_problem: str) -> str:
    file.seek(0)
    record: Any = next(iter(records(file, sniff(file, name), name))).value
    keys = (
        f" Keys of the first record: {', '.join(shown(key) for key in list(record)[:12])}."
        if isinstance(record, dict) and record
        else ""
    )
    if isinstance(record, dict) and "messages" in record:
        keys += " That looks like the messages format, which this version does not read."
    rows = "its only record is no" if n == 1 else f"none of its {n:,} records is a"
    return (
        f"{name}: {rows} LLaVA row ({first_problem.removeprefix('unreadable: ')}).{keys} Expected a list of "
        '{"id": …, "image": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}, or one such object a line.'
    )
