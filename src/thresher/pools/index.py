"""The index of a pool: the blocks of all its files as one table of columns, and the table of
images.

Everything is flat numpy (about 230 bytes per row), so that a pool of millions stays small and can
be cached as it is (`cache.py`). `build_index` reads the pool's files, `add_images` adds what is
known of the images; no image is decoded.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thresher.errors import PoolError, opt
from thresher.pools import files, llava, sampling, workers
from thresher.pools.block import Advance, Block, BlockImages, fallback_text, read_block
from thresher.pools.file_spec import FileSpec, describe_files
from thresher.pools.image_table import ImageTable, image_identity
from thresher.pools.layouts import make_converter
from thresher.pools.pool_file import PoolFile
from thresher.pools.readers import (
    describe_formats,
    detect_container,
    detect_layout,
    format_names_layout,
)
from thresher.pools.records import EXPECTED, Span
from thresher.pools.text_column import TextColumn
from thresher.types import DIGEST, RowError, digests_to_array, digests_to_bytes, row_digest

__all__ = ["Advance", "Index", "add_images", "build_index", "canonical_order", "fallback_text"]


@dataclass(frozen=True)
class Index:
    """n rows, m distinct images, p distinct problems, f files. Arrays may be read-only."""

    parts: TextColumn  # [f]: JSON of container and layout of each file
    part: np.ndarray  # int32 [n]: the file that holds the row
    offset: np.ndarray  # int64 [n]: its place there: first byte of the record, or number of the row
    length: np.ndarray  # int32 [n]: its bytes
    text_digest: np.ndarray  # DIGEST [n]: what texts decide of the digest
    digest: np.ndarray  # DIGEST [n]
    order: np.ndarray  # int64 [n]: by digest, then canonical record, then row
    source: np.ndarray  # int32 [n], into source_names (sorted by name)
    source_names: TextColumn
    ids: TextColumn  # [n]
    flags: np.ndarray  # uint16 [n]: llava.py's bits
    problem: np.ndarray  # int32 [n], into problem_texts; -1 = none
    problem_texts: TextColumn
    answer_words: np.ndarray  # int32 [n]: whitespace-separated words of all answers
    answer_chars: np.ndarray  # int32 [n]
    turns: np.ndarray  # int32 [n]: messages of any role
    video: np.ndarray  # bool [n]
    audio: np.ndarray  # bool [n]
    image_end: np.ndarray  # int64 [n]: row i holds image_ref[image_end[i-1] : image_end[i]]
    image_ref: np.ndarray  # int32 [references], into the table of images
    # [m], below the image folder, in order of appearance; "bytes:<sha256>" if embedded
    image_path: TextColumn
    image_size: np.ndarray  # int64 [m]: bytes, -1 = no such file, or a path that may not be read
    # int64 [m]: this and the next two at the last scan (`image_table.ImageTable`)
    image_mtime: np.ndarray
    image_ctime: np.ndarray  # int64 [m]
    image_inode: np.ndarray  # int64 [m]
    image_digest: np.ndarray  # DIGEST [m]: SHA-256 of the file; zeros if it was not read
    embedded: np.ndarray  # bool [m]: the record contains the image's bytes
    remarks: TextColumn  # notes on the files for the user

    @property
    def image_table(self) -> ImageTable:
        return ImageTable(
            self.image_size, self.image_mtime, self.image_ctime, self.image_inode, self.image_digest
        )


def build_index(
    sources: Sequence[FileSpec], root: str, prefixes: Sequence[str], advance: Advance | None = None
) -> Index:
    """Read all files of a pool.

    Arguments:
        sources: the files.
        root: the pool's image folder.
        prefixes: put before each file's relative image paths.
        advance: called with the number of rows read since the last call.

    Images are not checked yet: `digest` and `order` are filled in by `add_images`. Raises PoolError
    if a file is not of a known format.
    """
    blocks: list[Block] = []
    pool_files: list[PoolFile] = []
    file_numbers: list[int] = []  # the part of each block
    for file_number, (source, prefix) in enumerate(zip(sources, prefixes, strict=True)):
        found = _read_file(source, root, prefix, advance, pool_files)
        if source.source_given:
            for block in found:
                block.set_source(source.source)
        if source.sampling:
            found = [sampling.sample_rows(found, source)]
        blocks += found
        file_numbers += [file_number] * len(found)
    index = _merge_blocks(blocks, file_numbers, pool_files)
    n = len(index.offset)
    if n == 0:
        raise PoolError(f"{describe_files(sources)} holds no rows: {EXPECTED}.")
    if not any(b.usable for b in blocks):
        raise PoolError(
            _nothing_usable_message(describe_files(sources), n, blocks[0], sources[0].format)
        )
    return index


def _read_file(
    source: FileSpec, root: str, prefix: str, advance: Advance | None, pool_files: list[PoolFile]
) -> list[Block]:
    """The blocks of one file; its PoolFile is appended to `pool_files`."""
    with files.open_file(source.uri) as file:
        container = detect_container(file, source.uri, source.format)
        pool_file = PoolFile(
            source.uri, container, source.columns and "llamafactory", columns=source.columns
        )
        reader = pool_file.reader(file)
        if not pool_file.layout:
            layout = detect_layout(reader, source.uri, container, source.format)
            pool_file = PoolFile(
                source.uri, container, layout, chosen=format_names_layout(source.format)
            )
        pool_files.append(pool_file)

        def images() -> BlockImages:
            return BlockImages(root, prefix)

        if not source.columns and not files.is_remote(source.uri):
            size = os.fstat(file.fileno()).st_size
            if size == os.path.getsize(source.uri):  # otherwise it was decompressed
                spans = workers.plan_spans(file, container, size)
                if len(spans) > 1:
                    return workers.read_spans(
                        pool_file, reader, source.source, images, prefix, spans, advance
                    )
        convert = make_converter(pool_file.layout, pool_file.columns, pool_file.chosen)
        return [read_block(reader, convert, source.source, images(), Span(), advance)]


# ------------------------------------------------------------------------- from blocks to one table


def _merge_blocks(
    blocks: Sequence[Block], file_numbers: Sequence[int], pool_files: Sequence[PoolFile]
) -> Index:
    sources: dict[str, int] = {}
    problems: dict[str, int] = {}
    images: dict[str, int] = {}
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("source", "problem", "image_ref", "image_end", "part")
    }
    size, embedded = array("q"), bytearray()
    references = 0
    for block, number in zip(blocks, file_numbers, strict=True):
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
    # sorted, not in order of appearance: shuffling a pool must not renumber its sources
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
        parts=TextColumn.of(
            json.dumps({"container": p.container, "layout": p.layout, "chosen": p.chosen})
            for p in pool_files
        ),
        part=part,
        offset=offset,
        length=length,
        text_digest=bits("text_digest", DIGEST),
        digest=np.zeros(0, DIGEST),
        order=np.zeros(0, np.int64),
        source=rank[_join(columns["source"])] if names else _join(columns["source"]),
        source_names=TextColumn.of(names),
        ids=TextColumn.join([b.ids for b in blocks]),
        flags=bits("flags", np.uint16),
        problem=_join(columns["problem"]),
        problem_texts=TextColumn.of(problems),
        answer_words=joined("answer_words"),
        answer_chars=joined("answer_chars"),
        turns=joined("turns"),
        video=bits("video", np.bool_),
        audio=bits("audio", np.bool_),
        image_end=_join(columns["image_end"]),
        image_ref=_join(columns["image_ref"]),
        image_path=TextColumn.of(images),
        image_size=_array(size),
        image_mtime=none,
        image_ctime=none,
        image_inode=none,
        image_digest=np.zeros(len(size), DIGEST),
        embedded=np.frombuffer(bytes(embedded), np.bool_),
        remarks=TextColumn.of(r for b in blocks for r in b.remarks),
    )


def add_images(
    index: Index, pool_files: Sequence[PoolFile], table: ImageTable, trusted: bool
) -> Index:
    """The index with these images, and the digests and order that follow from them.

    Reads records only to order rows of equal digest.

    Arguments:
        index: of records, without images.
        pool_files: the files of the pool.
        table: the images.
        trusted: whether path and size identify an image.
    """

    updated = replace(
        index,
        image_size=table.size,
        image_mtime=table.mtime,
        image_ctime=table.ctime,
        image_inode=table.inode,
        image_digest=table.digest,
    )
    old = index.image_table
    alike = np.array_equal(old.size, table.size) and np.array_equal(old.digest, table.digest)
    if len(index.digest) == len(index.text_digest) and alike:
        return updated
    images = zip(index.image_path, table.size.tolist(), digests_to_bytes(table.digest), strict=True)
    identities = [image_identity(path, size, digest, trusted) for path, size, digest in images]
    texts = index.text_digest.tobytes()
    refs, start, digests = index.image_ref.tolist(), 0, []
    for row, end in enumerate(index.image_end.tolist()):
        digests.append(
            row_digest(texts[32 * row : 32 * row + 32], [identities[r] for r in refs[start:end]])
        )
        start = end
    digest = digests_to_array(digests)
    opened = _SequentialReader(pool_files)

    def canonical(row: int) -> bytes:
        return opened.canonical(
            int(index.part[row]), int(index.offset[row]), int(index.length[row])
        )

    return replace(updated, digest=digest, order=canonical_order(digest, canonical))


class _SequentialReader:
    """Reads records of a pool's files, keeping one file open at a time."""

    def __init__(self, pool_files: Sequence[PoolFile]) -> None:
        self.parts = pool_files
        self.number = -1

    def canonical(self, part: int, offset: int, length: int) -> bytes:
        if part != self.number:
            self.rows = self.parts[part].reader(files.open_file(self.parts[part].uri))
            self.number = part
        value = self.rows.value(offset, length)
        return llava.canonical_record(
            value, self.rows.raw(offset, length) if value is None else b""
        )


def canonical_order(digest: np.ndarray, canonical: Callable[[int], bytes]) -> np.ndarray:
    """int64 [n]: rows by digest; rows of equal digest by `canonical(row)`, then by row.

    Arguments:
        digest: DIGEST [n].
        canonical: row -> hash of its record, equal for equal content.
    """
    words = np.ascontiguousarray(digest).view(">u8").reshape(len(digest), 4).astype(np.uint64)
    order = np.argsort(words[:, 0], kind="stable").astype(np.int64)
    head = words[order, 0]
    # rare: among a million distinct digests two share 8 bytes in one of ten million pools
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
    """Block codes -> pool codes; new names are added to `all_names`; -1 stays."""
    to = [all_names.setdefault(name, len(all_names)) for name in names]
    return np.asarray([*to, -1], np.int32)[codes]


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _array(values: array[int]) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.dtype(values.typecode))


def _nothing_usable_message(name: str, n: int, block: Block, given_format: str | None) -> str:
    rows = "its only record is no" if n == 1 else f"none of its {n:,} records is a"
    keys = f" Keys of the first record: {block.first_keys}." if block.first_keys else ""
    # the record was converted to the LLaVA layout first, whose error would be misleading here
    if given_format is not None:
        return (
            f"{name}: {rows} row when read as {given_format}.{keys} Omit "
            f"{opt('format', given_format)} to detect the layout from the content. "
            f"{describe_formats()}"
        )
    first = RowError.parse(block.first_problem)
    why = first.detail if first.kind == "unreadable" else str(first)
    return (
        f"{name}: {rows} LLaVA row ({why}).{keys} "
        "Expected a list of "
        '{"id": …, "image": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", '
        '"value": …}]}, or one such '
        f"object per line. {describe_formats()}"
    )
