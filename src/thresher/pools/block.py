"""One pass over one file of a pool: a block of columns, one value per row, and the images it names.

Everything is flat (about 150 bytes per row). `index.py` builds the pool's index from the blocks of
its files, or from the spans of one large file that several processes read (`workers.py`). Reads the
file; does not check images (`image_table.py` does).
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from thresher.pools import llava
from thresher.pools.layouts import Convert, restore_extra_fields
from thresher.pools.paths import unsafe_path_reason
from thresher.pools.readers import RecordReader
from thresher.pools.records import Span
from thresher.pools.text_column import TextColumnBuilder

Advance = Callable[[int], None]  # called with the number of rows read since the last call
MAX_RAW_BYTES = 1 << 20  # bytes of an unreadable record that are used as its text
_NUMBERED = re.compile(r"unreadable: (line|record) \d")
_EMPTY = b""


@dataclass
class Block:
    """n rows of one file, in its order. Images, sources and problems are numbered within the
    block."""

    offset: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("i"))
    text_digest: bytearray = field(default_factory=bytearray)
    source: array[int] = field(default_factory=lambda: array("i"))
    ids: TextColumnBuilder = field(default_factory=TextColumnBuilder)
    flags: array[int] = field(default_factory=lambda: array("H"))
    problem: array[int] = field(default_factory=lambda: array("i"))
    answer_words: array[int] = field(default_factory=lambda: array("i"))
    answer_chars: array[int] = field(default_factory=lambda: array("i"))
    turns: array[int] = field(default_factory=lambda: array("i"))
    video: bytearray = field(default_factory=bytearray)
    audio: bytearray = field(default_factory=bytearray)
    image_end: array[int] = field(default_factory=lambda: array("q"))
    image_ref: array[int] = field(default_factory=lambda: array("i"))
    image_path: list[str] = field(default_factory=list)
    image_size: array[int] = field(default_factory=lambda: array("q"))  # of embedded ones, else -1
    embedded: bytearray = field(default_factory=bytearray)  # a flag an image
    sources: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    usable: int = 0
    first_problem: str = ""
    first_keys: str = ""  # of the first record
    remarks: list[str] = field(default_factory=list)
    reached: int = -1  # Span.reached
    # a problem names the number of its line or record, counted from the start of the span
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.offset)

    def set_source(self, source: str) -> None:
        """Make this the source of every row, overriding the records."""
        self.sources = [source] if len(self) else []
        self.source = array("i", bytes(self.source.itemsize * len(self)))


class BlockImages:
    """Numbers the images of a block, each path once.

    Arguments:
        root: the pool's image folder.
        prefix: put before the file's relative paths.
    """

    def __init__(self, root: str, prefix: str) -> None:
        self.root = root
        self.roots = (root.rstrip("/") + "/", os.path.abspath(root).rstrip("/") + "/")
        self.prefix = prefix + "/" if prefix else ""
        self.number: dict[str | bytes, int] = {}
        self.path: list[str] = []
        self.size = array("q")
        self.embedded = bytearray()

    def number_of(self, image: str | bytes) -> int:
        """The number of an image; a new one if it has not occurred before."""
        number = len(self.size)
        if isinstance(image, bytes):
            name = "bytes:" + hashlib.sha256(image).hexdigest()
            known = self.number.setdefault(name.encode(), number)
            if known == number:
                self._add(name, len(image), True)
            return known
        path = self.under_root(image)
        if path != image and (known := self.number.get(path, -1)) >= 0 and self.path[known] == path:
            self.number[image] = known
            return known
        self.number[image] = number
        self._add(path, -1, False)
        return number

    def under_root(self, path: str) -> str:
        """The path below the pool's image folder: an absolute path inside it becomes relative,
        relative ones get the prefix.
        """
        if path[:1] == "/":
            for root in self.roots:
                if path.startswith(root) and ".." not in path:
                    return path[len(root) :].lstrip("/") or path
            return path
        if self.prefix and not unsafe_path_reason(path):
            return self.prefix + path
        return path

    def _add(self, path: str, size: int, embedded: bool) -> None:
        self.path.append(path)
        self.size.append(size)
        self.embedded.append(embedded)


def read_block(
    reader: RecordReader,
    convert: Convert | None,
    default_source: str,
    images: BlockImages,
    span: Span,
    advance: Advance | None = None,
) -> Block:
    """Read the records of `span` into a block.

    Arguments:
        reader: the open file.
        convert: converts a record to the LLaVA layout; None: not needed.
        default_source: the source of rows whose record names none.
        images: numbers the images; shared by no other block.
        span: the part of the file to read.
        advance: called with the number of rows read since the last call.

    Raises PoolError if the rest of the file cannot be read.
    """
    block = Block()
    numbers, look_up = images.number, images.number_of
    sources: dict[str, int] = {}
    problems: dict[str, int] = {}
    add_offset, add_length, add_source = (
        block.offset.append,
        block.length.append,
        block.source.append,
    )
    add_problem, add_words, add_chars = (
        block.problem.append,
        block.answer_words.append,
        block.answer_chars.append,
    )
    add_turns, add_end, add_id = block.turns.append, block.image_end.append, block.ids.append
    flags, video, audio = block.flags, block.video, block.audio
    digest, image_ref = block.text_digest, block.image_ref
    parse, digest_of, id_of = llava.parse, llava.text_digest, llava.record_id
    reported = usable = 0

    for offset, size, value, broken in reader.records(span):
        if type(value) is dict and not broken:
            if not block.first_keys and not block.offset:
                block.first_keys = ", ".join(repr(str(k))[1:-1][:60] for k in list(value)[:12])
            if convert is not None:
                value = convert(value)
            elif "extra_json" in value:
                value = restore_extra_fields(value)
        if (
            broken
            or type(value) is not dict
            or type(value.get("conversations")) is not list
            or not value["conversations"]
        ):
            roles, texts, record_images, src, row_problem, flag, has_video, has_audio, media = (
                parse(value, broken, fallback_text(reader, offset, size))
            )
            block.first_problem = block.first_problem or row_problem
            block.numbered = block.numbered or _NUMBERED.match(broken) is not None
        else:
            roles, texts, record_images, src, row_problem, flag, has_video, has_audio, media = (
                parse(value, "", "")
            )
            usable += 1
        add_offset(offset)
        add_length(size)
        add_id(id_of(value))
        src = src or default_source
        code = sources.get(src)
        if code is None:
            code = sources[src] = len(sources)
        add_source(code)
        flags.append(flag)
        video.append(has_video)
        audio.append(has_audio)
        add_problem(problems.setdefault(row_problem, len(problems)) if row_problem else -1)
        add_turns(len(roles))
        w = c = 0
        for role, text in zip(roles, texts, strict=True):
            if role == "assistant":
                w += len(text.split())
                c += len(text)
        add_words(w)
        add_chars(c)
        if record_images:
            image_ref.extend([numbers[i] if i in numbers else look_up(i) for i in record_images])
        digest += digest_of(roles, texts, media)
        add_end(len(image_ref))
        if advance is not None and len(flags) - reported >= 10_000:
            advance(len(flags) - reported)
            reported = len(flags)

    if advance is not None and len(flags) > reported:
        advance(len(flags) - reported)
    block.usable = usable
    block.sources, block.problems = list(sources), list(problems)
    block.image_path, block.image_size, block.embedded = images.path, images.size, images.embedded
    block.remarks = reader.remarks()
    block.reached = span.reached
    return block


def fallback_text(reader: RecordReader, offset: int, length: int) -> str:
    """The text of an unreadable record, which is used in place of its conversation.

    Arguments:
        reader: of the file.
        offset: first byte of the record.
        length: of the record in bytes.
    """
    raw = (
        reader.raw(offset, min(length, MAX_RAW_BYTES))
        if length > MAX_RAW_BYTES
        else reader.raw(offset, length)
    )
    return raw[:MAX_RAW_BYTES].decode("utf-8", "surrogateescape")
