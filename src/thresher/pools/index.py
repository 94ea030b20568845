"""The index of a pool: the blocks of all its files as one table of columns, one value a row, and
the table of images.

Everything is flat numpy (about 230 bytes a row), so that a pool of millions stays small and can be
cached as it is (`cache.py`). `build` reads the pool's files, `with_images` knows what the images
contain; no image is decoded.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thresher.errors import PoolError
from thresher.pools import files, llava, sampling, workers
from thresher.pools.block import Advance, Block, Images, read, stand_in
from thresher.pools.file_spec import Source, where
from thresher.pools.image_table import Table, identity
from thresher.pools.layouts import converter
from thresher.pools.pool_file import Part
from thresher.pools.readers import container_of, formats_in_words, layout_of, names_layout
from thresher.pools.records import EXPECTED, Span
from thresher.pools.text_column import Texts
from thresher.types import DIGEST, digests_to_array, digests_to_bytes, row_digest

__all__ = ["Advance", "Index", "build", "canonical_order", "stand_in", "with_images"]


@dataclass(frozen=True)
class Index:
    """n rows, m different images, p different problems, f files. Arrays may be read-only."""

    parts: Texts  # [f]: JSON of container and layout of each file
    part: np.ndarray  # int32 [n]: the file that holds the row
    offset: np.ndarray  # int64 [n]: its place there: first byte of the record, or number of the row
    length: np.ndarray  # int32 [n]: its bytes
    text_digest: np.ndarray  # DIGEST [n]: what texts decide of the digest
    digest: np.ndarray  # DIGEST [n]
    order: np.ndarray  # int64 [n]: by digest, then canonical record, then row
    source: np.ndarray  # int32 [n], into source_names (sorted by name)
    source_names: Texts
    ids: Texts  # [n]
    flags: np.ndarray  # uint16 [n]: llava.py's bits
    problem: np.ndarray  # int32 [n], into problem_texts; -1 = none
    problem_texts: Texts
    answer_words: np.ndarray  # int32 [n]: whitespace-separated words of all answers
    answer_chars: np.ndarray  # int32 [n]
    turns: np.ndarray  # int32 [n]: messages of any role
    video: np.ndarray  # bool [n]
    audio: np.ndarray  # bool [n]
    image_end: np.ndarray  # int64 [n]: row i holds image_ref[image_end[i-1] : image_end[i]]
    image_ref: np.ndarray  # int32 [references], into the table of images
    # [m], under the image folder, in order of appearance; "bytes:<sha256>" for an embedded one
    image_path: Texts
    image_size: np.ndarray  # int64 [m]: bytes, -1 = no such file, or a path that may not be read
    # int64 [m]: with the next two, when the image was looked at (`contents.Table`)
    image_mtime: np.ndarray
    image_ctime: np.ndarray  # int64 [m]
    image_inode: np.ndarray  # int64 [m]
    image_digest: np.ndarray  # DIGEST [m]: SHA-256 of the file; zeros where it was not read
    embedded: np.ndarray  # bool [m]: the record holds the image's bytes
    remarks: Texts  # what the user may want to know of the files

    @property
    def table(self) -> Table:
        return Table(
            self.image_size, self.image_mtime, self.image_ctime, self.image_inode, self.image_digest
        )


def build(
    sources: Sequence[Source], root: str, prefixes: Sequence[str], advance: Advance | None = None
) -> Index:
    """Read all files of a pool. `root`: its image folder; `prefixes`: what goes before each file's
    image paths.

    The images are not looked at yet: `digest` and `order` come with `with_images`.
    `advance(rows)` is called now and then. Raises PoolError where a file is none of a known format.
    """
    blocks: list[Block] = []
    parts: list[Part] = []
    of: list[int] = []  # the part of each block
    for number, (source, prefix) in enumerate(zip(sources, prefixes, strict=True)):
        found = _file(source, root, prefix, advance, parts)
        if source.named:
            for block in found:
                block.name(source.source)
        if source.keep:
            found = [sampling.sample(found, source)]
        blocks += found
        of += [number] * len(found)
    index = _merge(blocks, of, parts)
    n = len(index.offset)
    if n == 0:
        raise PoolError(f"{where(sources)} holds no rows: {EXPECTED}.")
    if not any(b.usable for b in blocks):
        raise PoolError(_nothing_usable(where(sources), n, blocks[0], sources[0].format))
    return index


def _file(
    source: Source, root: str, prefix: str, advance: Advance | None, parts: list[Part]
) -> list[Block]:
    """The blocks of one file; its Part is added to `parts`."""
    with files.open_file(source.uri) as file:
        container = container_of(file, source.uri, source.format)
        part = Part(
            source.uri, container, source.columns and "llamafactory", columns=source.columns
        )
        rows = part.rows(file)
        if not part.layout:
            layout = layout_of(rows, source.uri, container, source.format)
            part = Part(source.uri, container, layout, chosen=names_layout(source.format))
        parts.append(part)

        def images() -> Images:
            return Images(root, prefix)

        if not source.columns and not files.is_remote(source.uri):
            size = os.fstat(file.fileno()).st_size
            if size == os.path.getsize(source.uri):  # else it was unpacked
                spans = workers.spans(file, container, size)
                if len(spans) > 1:
                    return workers.read_parts(
                        part, rows, source.source, images, prefix, spans, advance
                    )
        convert = converter(part.layout, part.columns, part.chosen)
        return [read(rows, convert, source.source, images(), Span(), advance)]


# ------------------------------------------------------------------------- from blocks to one table


def _merge(blocks: Sequence[Block], of: Sequence[int], parts: Sequence[Part]) -> Index:
    sources: dict[str, int] = {}
    problems: dict[str, int] = {}
    images: dict[str, int] = {}
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("source", "problem", "image_ref", "image_end", "part")
    }
    size, embedded = array("q"), bytearray()
    references = 0
    for block, number in zip(blocks, of, strict=True):
        columns["source"].append(_renumbered(_array(block.source), block.sources, sources))
        columns["problem"].append(_renumbered(_array(block.problem), block.problems, problems))
        known = len(images)
        columns["image_ref"].append(_renumbered(_array(block.image_ref), block.image_path, images))
        if len(images) - known == len(block.image_path):
            size.extend(block.image_size)
            embedded += block.embedded
        else:
            for path, bytes_, inside in zip(
                block.image_path, block.image_size, block.embedded, strict=True
            ):
                if images[path] == len(size):
                    size.append(bytes_)
                    embedded.append(inside)
        columns["image_end"].append(_array(block.image_end) + references)
        references += len(block.image_ref)
        columns["part"].append(np.full(len(block), number, np.int32))
    # not in order of appearance: shuffling a pool must not renumber its sources
    names = sorted(sources)
    rank = np.empty(len(names), np.int32)
    rank[[sources[s] for s in names]] = np.arange(len(names), dtype=np.int32)

    def joined(name: str) -> np.ndarray:
        return _join([_array(getattr(b, name)) for b in blocks])

    def bits(name: str, dtype: Any) -> np.ndarray:
        return _join([np.frombuffer(bytes(getattr(b, name)), dtype) for b in blocks])

    none = np.zeros(len(size), np.int64)
    offset, length, part = joined("offset"), joined("length"), _join(columns["part"])
    return Index(
        parts=Texts.of(
            json.dumps({"container": p.container, "layout": p.layout, "chosen": p.chosen})
            for p in parts
        ),
        part=part,
        offset=offset,
        length=length,
        text_digest=bits("text_digest", DIGEST),
        digest=np.zeros(0, DIGEST),
        order=np.zeros(0, np.int64),
        source=rank[_join(columns["source"])] if names else _join(columns["source"]),
        source_names=Texts.of(names),
        ids=Texts.join([b.ids for b in blocks]),
        flags=bits("flags", np.uint16),
        problem=_join(columns["problem"]),
        problem_texts=Texts.of(problems),
        answer_words=joined("answer_words"),
        answer_chars=joined("answer_chars"),
        turns=joined("turns"),
        video=bits("video", np.bool_),
        audio=bits("audio", np.bool_),
        image_end=_join(columns["image_end"]),
        image_ref=_join(columns["image_ref"]),
        image_path=Texts.of(images),
        image_size=_array(size),
        image_mtime=none,
        image_ctime=none,
        image_inode=none,
        image_digest=np.zeros(len(size), DIGEST),
        embedded=np.frombuffer(bytes(embedded), np.bool_),
        remarks=Texts.of(r for b in blocks for r in b.remarks),
    )


def with_images(index: Index, parts: Sequence[Part], table: Table, trusted: bool) -> Index:
    """The index of the same rows with these images: digests and order follow. Reads records of
    equal rows only."""

    looked = replace(
        index,
        image_size=table.size,
        image_mtime=table.mtime,
        image_ctime=table.ctime,
        image_inode=table.inode,
        image_digest=table.digest,
    )
    old = index.table
    alike = np.array_equal(old.size, table.size) and np.array_equal(old.digest, table.digest)
    if len(index.digest) == len(index.text_digest) and alike:
        return looked
    images = zip(index.image_path, table.size.tolist(), digests_to_bytes(table.digest), strict=True)
    identities = [identity(path, size, digest, trusted) for path, size, digest in images]
    texts = index.text_digest.tobytes()
    refs, start, digests = index.image_ref.tolist(), 0, []
    for at, end in enumerate(index.image_end.tolist()):
        digests.append(
            row_digest(texts[32 * at : 32 * at + 32], [identities[r] for r in refs[start:end]])
        )
        start = end
    digest = digests_to_array(digests)
    opened = Opened(parts)

    def canonical(row: int) -> bytes:
        return opened.canonical(
            int(index.part[row]), int(index.offset[row]), int(index.length[row])
        )

    return replace(looked, digest=digest, order=canonical_order(digest, canonical))


class Opened:
    """The files of a pool, opened again one at a time."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.number = -1

    def canonical(self, part: int, offset: int, length: int) -> bytes:
        if part != self.number:
            self.rows = self.parts[part].rows(files.open_file(self.parts[part].uri))
            self.number = part
        value = self.rows.value(offset, length)
        return llava.canonical_record(
            value, self.rows.raw(offset, length) if value is None else b""
        )


def canonical_order(digest: np.ndarray, canonical: Callable[[int], bytes]) -> np.ndarray:
    """int64 [n]: rows by digest; rows of equal digest by `canonical(row)`, then by row."""
    words = np.ascontiguousarray(digest).view(">u8").reshape(len(digest), 4).astype(np.uint64)
    order = np.argsort(words[:, 0], kind="stable").astype(np.int64)
    head = words[order, 0]
    # two of a million different ones share 8 bytes once in ten million pools
    if (head[1:] == head[:-1]).any():
        order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0])).astype(np.int64)
    ordered = words[order]
    same = np.r_[False, (ordered[1:] == ordered[:-1]).all(axis=1), False]
    starts = np.flatnonzero(~same[:-1] & same[1:])
    stops = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        rows = order[start:stop].tolist()
        order[start:stop] = sorted(rows, key=lambda row: (canonical(row), row))
    return order


def _renumbered(codes: np.ndarray, names: Sequence[str], all_names: dict[str, int]) -> np.ndarray:
    """Codes of a block -> codes of the pool, whose table `all_names` grows; -1 stays."""
    to = [all_names.setdefault(name, len(all_names)) for name in names]
    return np.asarray([*to, -1], np.int32)[codes]


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _array(values: array[int]) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.dtype(values.typecode))


def _nothing_usable(name: str, n: int, block: Block, told: str | None) -> str:
    rows = "its only record is no" if n == 1 else f"none of its {n:,} records is a"
    keys = f" Keys of the first record: {block.first_keys}." if block.first_keys else ""
    # records are turned into LLaVA's form first: what that form lacks says nothing here
    if told is not None:
        return (
            f"{name}: {rows} row when read as {told}.{keys} Take --format {told} away and the "
            "content decides. "
        ) + (formats_in_words())
    return (
        f"{name}: {rows} LLaVA row ({block.first_problem.removeprefix('unreadable: ')}).{keys} "
        "Expected a list of "
        '{"id": …, "image": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", '
        '"value": …}]}, or one such '
        f"object a line. {formats_in_words()}"
    )
