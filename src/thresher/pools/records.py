"""Streams records from a JSON list or a JSONL file, each with its exact byte range.

The file is read in blocks and decoded record by record, so memory use is bounded by the longest
record (at most `MAX_RECORD` bytes), not by the file. Text is decoded with `surrogateescape`:
invalid UTF-8 becomes lone surrogates, which keeps byte offsets exact. What a record means is
decided in `llava.py`. Reads one open file.

Longer than 400 lines because lists and lines share the reader of blocks, positions and errors.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from thresher.errors import PoolError
from thresher.pools import malformed_json
from thresher.text import TOO_DEEP, closing_bracket, json_reason, parse_json, too_deep, too_deep_at

MAX_RECORD = 64 << 20  # bytes: anything longer is not a single sample
BLOCK = 1 << 20
EXPECTED = "expected a JSON list of records, or JSONL with one record a line"
# type of a JSON value -> its name in messages
_TYPE_NAMES = {str: "text", int: "number", float: "number", bool: "true or false"}

_BOM = codecs.BOM_UTF8
_NEXT = re.compile(r"[ \t\r\n]*([,\]])[ \t\r\n]*")
_RECORD_BORDER = rb"\}[ \t\r\n]*,[ \t\r\n]*\{"
_FIRST_KEY = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\r\n]*\[[ \t\r\n]*\{([ \t\r\n]*"[^"\\]{1,200}")')
_SPACE = re.compile(r"[ \t\r\n]*")
_MAGIC = {
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"PK\x03\x04": "a zip file; unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd file; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"\xfd7zXZ\0": "an xz file; unpack it first",
    b"7z\xbc\xaf'\x1c": "a 7-Zip file; unpack it first",
    b"PAR1": "a parquet file",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


@dataclass
class Span:
    """A part of a file: the records that start at byte `start` or later and before `stop`.

    `start` must be the first byte of a record (0: the beginning of the file). The reader sets
    `reached` when it stops because of `stop`, to the first byte of the next record; -1: the file
    ended first.
    """

    start: int = 0
    stop: int = -1  # -1: the end of the file
    reached: int = -1


class Record(NamedTuple):
    """One record. `problem` is "", or why it could not be decoded (`value` is then None)."""

    offset: int  # first byte in the file
    length: int  # bytes
    value: Any
    problem: str


def sniff(file: BinaryIO, name: str) -> str:
    """Whether the content is "json" (a list) or "jsonl". Raises PoolError for anything else; leaves
    the file position undefined.

    Arguments:
        file: the open file.
        name: for messages.
    """
    file.seek(0)
    head = file.read(BLOCK)
    is_complete = len(head) < BLOCK
    for magic, description in _MAGIC.items():
        if head.startswith(magic):
            raise PoolError(f"{name} is {description}. ({EXPECTED[0].upper()}{EXPECTED[1:]}.)")
    text = head.removeprefix(_BOM).lstrip()
    if not text:
        raise PoolError(f"{name} is empty: {EXPECTED}.")
    if text[:1] == b"[":
        return "json"
    lines = [line for line in text.split(b"\n") if line.strip()]
    complete = lines if is_complete else lines[:-1]
    first = _parse_or_none(complete[0]) if complete else None
    if isinstance(first, dict):
        if len(lines) == 1 and (shape := malformed_json.describe_object(first)):
            raise PoolError(f"{name} {shape}. ({EXPECTED[0].upper()}{EXPECTED[1:]}.)")
        return "jsonl"
    if shape := malformed_json.describe_text(text, is_complete):
        raise PoolError(f"{name} {shape}. ({EXPECTED[0].upper()}{EXPECTED[1:]}.)")
    if not _is_one_object(text, is_complete) and any(
        isinstance(_parse_or_none(line), dict) for line in complete[:1000]
    ):
        return "jsonl"  # its first line is broken
    if text[:1] == b"{":
        if not complete:
            return "jsonl"  # one line longer than a block: MAX_RECORD decides
        key = re.match(rb'\{\s*"([^"\\]{1,60})"\s*:', text)
        named = f" (its first key is {key[1].decode('utf-8', 'replace')!r})" if key else ""
        if len(lines) == 1:
            raise PoolError(
                f"{name} has one line that is not valid JSON{named}: {_parse_error(lines[0])}. "
                f"Is the file cut off? {EXPECTED[0].upper()}{EXPECTED[1:]}."
            )
        raise PoolError(
            f"{name} starts with {{ and no line is a record by itself: a single top-level "
            f"object{named}? {EXPECTED}. "
            "If a key of that object contains the records, save only that list."
        )
    value = _parse_or_none(text) if is_complete else None
    if value is not None:
        raise PoolError(
            f"{name} contains a single {_TYPE_NAMES.get(type(value), 'value')} at the top level: "
            f"{EXPECTED}."
        )
    raise PoolError(f"{name} is neither JSON nor JSONL: it starts with {text[:24]!r}; {EXPECTED}.")


def _is_one_object(text: bytes, is_complete: bool) -> bool:
    """Whether the text is one JSON value over several lines, as far as it can be seen
    (`is_complete`: to its end)."""
    decoded = text.decode("utf-8", "replace")
    try:
        _, stop = json.JSONDecoder(strict=False).raw_decode(decoded)
    except json.JSONDecodeError as error:
        return not is_complete and error.pos > decoded.rfind(
            "\n"
        )  # valid up to the end of the block
    except (ValueError, RecursionError):
        return False
    return "\n" in decoded[:stop]


def _parse_or_none(line: bytes) -> Any:
    try:
        return parse_json(_without_comma(line))
    except ValueError:
        return None


def _parse_error(line: bytes) -> str:
    try:
        parse_json(_without_comma(line))
    except ValueError as error:
        return str(error)
    return "no object"


def _without_comma(line: bytes) -> bytes:
    """A JSONL line without a trailing comma: some tools write a JSON list without its brackets. No
    JSON value ends with a comma.
    """
    line = line.strip(b" \t\r\n")
    return line[:-1].rstrip() if line.endswith(b",") else line


def iter_records(
    file: BinaryIO, kind: str, name: str, span: Span | None = None
) -> Iterator[Record]:
    """Every record of an open binary file, in file order.

    Arguments:
        file: the open file.
        kind: "json" or "jsonl", as `sniff` returns it.
        name: the file's name, for messages.
        span: only the records in it; None: all.

    Raises PoolError if a JSON list becomes invalid; an invalid JSONL line is a Record with a
    `problem`.
    """
    span = span or Span()
    return _json_list(file, name, span) if kind == "json" else _json_lines(file, span)


def find_record_start(file: BinaryIO, kind: str, position: int) -> int:
    """The first byte of a record at or soon after byte `position`; -1 if none is found within
    `BLOCK` bytes.

    Certain for JSONL. In a JSON list it is a guess (a text may contain what looks like a border),
    so the reader of the preceding span must check that a record starts exactly there. To tell a
    border between records from one between turns, the key of the file's first record must follow
    it.

    Arguments:
        file: the open file.
        kind: "json" or "jsonl", as `sniff` returns it.
        position: a byte of the file.
    """
    text = os.pread(file.fileno(), BLOCK, position)
    if kind == "jsonl":
        found = text.find(b"\n")
        return position + found + 1 if found >= 0 else -1
    first = _FIRST_KEY.match(os.pread(file.fileno(), 4096, 0))
    border = re.search(_RECORD_BORDER + (rb"(?=%s)" % re.escape(first[1]) if first else b""), text)
    return position + border.end() - 1 if border else -1


# -------------------------------------------------------------------------------------------- JSONL


def _json_lines(file: BinaryIO, span: Span) -> Iterator[Record]:
    decode = json.JSONDecoder().decode
    offset = span.start
    file.seek(0)
    if not offset and file.read(len(_BOM)) == _BOM:
        offset = len(_BOM)
    file.seek(offset)
    number = 0
    while line := file.readline(MAX_RECORD + 1):
        if 0 <= span.stop <= offset:
            span.reached = offset
            return
        number += 1
        size = len(line)
        if size > MAX_RECORD:
            while line and not line.endswith(b"\n"):
                line = file.readline(BLOCK)
                size += len(line)
            yield Record(
                offset,
                size,
                None,
                f"unreadable: line {number} is longer than {MAX_RECORD >> 20} MB",
            )
            offset += size
            continue
        record = _without_comma(line)
        if record:
            start = offset + line.index(record[:1])
            value, reason = None, ""
            try:
                if too_deep(record):
                    reason = TOO_DEEP
                else:
                    value = decode(record.decode("utf-8", "surrogateescape"))
            except RecursionError:
                reason = TOO_DEEP
            except ValueError as error:
                reason = _reason(error, record)
            yield Record(
                start,
                len(record),
                value,
                f"unreadable: line {number} is not valid JSON: {reason}" if reason else "",
            )
        offset += size


def _reason(error: ValueError, record: bytes) -> str:
    if b"\0" in record:
        return "it contains NUL bytes, as after a crash or on a full disk"
    return (
        "it is Python's notation of a dict, not JSON"
        if malformed_json.is_repr(record)
        else json_reason(error)
    )


# ---------------------------------------------------------------------------------------- JSON list


class _Window:
    """A moving window of decoded text over a file, with the byte offset of its first character."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        file.seek(start)
        self.file = file
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.base = 0  # bytes before text[0]
        self.end = False
        self.read = 0  # bytes read
        if start:
            self.base = self.read = start
        elif file.read(len(_BOM)) == _BOM:
            self.base = self.read = len(_BOM)
        else:
            file.seek(0)

    def bytes_in(self, start: int, stop: int) -> int:
        """Bytes of text[start:stop]."""
        return len(self.text[start:stop].encode("utf-8", "surrogateescape"))

    def more(self, keep: int, keep_offset: int) -> bool:
        """Drop the text before `keep` (at byte `keep_offset`) and read more. False at the end of
        the file.
        """
        if self.end:
            return False
        rest = self.text[keep:]
        # doubling: a long record is not rescanned many times
        block = self.file.read(max(BLOCK, len(rest)))
        self.end = not block
        self.read += len(block)
        self.text = rest + self.decoder.decode(block, final=self.end)
        self.base = keep_offset
        return True


def _json_list(file: BinaryIO, name: str, span: Span) -> Iterator[Record]:
    decode = json.JSONDecoder().raw_decode
    lenient = json.JSONDecoder(strict=False, parse_int=str).raw_decode
    window = _Window(file, span.start)
    window.more(0, window.base)
    opening = re.compile(r"" if span.start else r"[ \t\r\n]*\[[ \t\r\n]*")
    while (found := opening.match(window.text)) is None or found.end() == len(window.text):
        if not window.more(0, window.base):
            raise PoolError(f"{name} is cut off after its opening bracket: {EXPECTED}.")
    position = found.end()  # character of the next record
    offset = window.base + position  # its byte: only ASCII so far
    if window.text[position] == "]":
        _check_nothing_after(window, position + 1, offset + 1, name)
        return
    ascii_only = window.text.isascii()
    count = 0
    while True:
        if 0 <= span.stop <= offset:
            span.reached = offset
            return
        problem = ""
        failure: ValueError | RecursionError | None = None
        try:
            value, stop = decode(window.text, position)
            after = _NEXT.match(window.text, stop)
            if too_deep_at(window.text, position, stop):
                value, problem = None, f"unreadable: record {count + 1} is {TOO_DEEP}"
        except RecursionError as error:
            failure, after, value = error, None, None
            stop = closing_bracket(window.text, position)
            if stop > 0:
                problem = f"unreadable: record {count + 1} is {TOO_DEEP}"
                after = _NEXT.match(window.text, stop)
        except ValueError as error:
            failure, after, value = error, None, None
            control = str(error).startswith("Invalid control character")
            # or a number with thousands of digits
            if control or not isinstance(error, json.JSONDecodeError):
                content = (
                    "a raw control character inside a string" if control else json_reason(error)
                )
                try:
                    _, stop = lenient(window.text, position)
                    problem = f"unreadable: record {count + 1} contains {content}"
                    after = _NEXT.match(window.text, stop)
                except (ValueError, RecursionError):
                    after = None
        if after is None or (after.end() == len(window.text) and not window.end):
            # Either the window ends before the record does, or the record is invalid: reading more
            # decides.
            if window.read - offset <= MAX_RECORD and window.more(position, offset):
                position = 0
                ascii_only = window.text.isascii()
                continue
            if after is None:
                raise _broken_record_error(window, position, offset, count, failure, name)
        length = stop - position if ascii_only else window.bytes_in(position, stop)
        if length > MAX_RECORD:
            value, problem = (
                None,
                (f"unreadable: record {count + 1} is longer than {MAX_RECORD >> 20} MB"),
            )
        yield Record(offset, length, value, problem)
        count += 1
        offset += length + after.end() - stop
        position = after.end()
        if after[1] == "]":
            _check_nothing_after(window, position, offset, name)
            return
        if position < len(window.text) and window.text[position] == "]":
            raise PoolError(
                f"{name} is not valid JSON at byte {offset}: a comma after the last record "
                f"({count}). Remove that comma."
            )


def _check_nothing_after(window: _Window, position: int, offset: int, name: str) -> None:
    while True:
        space = _SPACE.match(window.text, position)
        assert space is not None  # the pattern matches the empty string
        offset += space.end() - position
        position = space.end()
        if position < len(window.text):
            if window.text[position] == "[":
                raise PoolError(
                    f"{name} continues after the end of its list, at byte {offset}: it has one "
                    f"JSON "
                    "list per line. Convert it to one object per line: jq -c '.[]' IN > OUT.jsonl"
                )
            if window.text[position] == "\0":
                raise PoolError(
                    f"{name} continues after the end of its list, at byte {offset}, with NUL "
                    f"bytes, "
                    "as after a crash or on a full disk. Remove them: tr -d '\\0' < IN > OUT.json"
                )
            raise PoolError(
                f"{name} continues after the end of its list, at byte {offset}: expected one JSON "
                "list and nothing else."
            )
        if not window.more(position, offset):
            return
        position = 0


def _broken_record_error(
    window: _Window,
    position: int,
    offset: int,
    count: int,
    error: ValueError | RecursionError | None,
    name: str,
) -> PoolError:
    """What is wrong with the record at `position`, after `count` good ones."""
    location = f"record {count + 1}, which starts at byte {offset}"
    text = window.text
    if isinstance(error, RecursionError):
        return PoolError(
            f"{name}: {location}, is {TOO_DEEP} and does not end within the file or "
            f"{MAX_RECORD >> 20} MB."
        )
    if not window.end:
        return PoolError(
            f"{name}: {location}, does not end within {MAX_RECORD >> 20} MB; {EXPECTED}. Is a "
            f"quote "
            "or bracket missing?"
        )
    if malformed_json.is_repr(text[position : position + 100].encode("utf-8", "replace")):
        return PoolError(
            f"{name}: {location}, is a Python dict literal (single quotes), which is not "
            "JSON. Read the file with ast.literal_eval and write it with json.dump."
        )
    error_position = getattr(error, "pos", None)
    # decoded, but neither a comma nor a bracket follows (or a number too long for an int)
    if error_position is None:
        if error is not None:
            return PoolError(f"{name} is not valid JSON: {location}: {error}.")
        _, stop = json.JSONDecoder(strict=False).raw_decode(text, position)
        stop += len(text[stop:]) - len(text[stop:].lstrip())
        error_offset = offset + window.bytes_in(position, stop)
        if stop >= len(text):
            return _cut_off_error(
                name, count + 1, f"the list does not end with ] (byte {error_offset})"
            )
        found = text[stop : stop + 20]
        return PoolError(
            f"{name} is not valid JSON at byte {error_offset}: expected , or ] after record "
            f"{count + 1}, "
            f"found {found!r}."
        )
    if position >= len(text):
        return _cut_off_error(name, count, f"the list does not end with ] (byte {offset})")
    if str(error).startswith("Unterminated string") or len(text) - error_position < 6:
        return _cut_off_error(name, count, f"{location}, is not complete")
    error_offset = offset + window.bytes_in(position, error_position)
    context = text[max(error_position - 20, position) : error_position + 20]
    return PoolError(
        f"{name} is not valid JSON at byte {error_offset}: {getattr(error, 'msg', error)} in "
        f"{location}, "
        f"near {context!r}. Repair that record, or save the pool as JSONL, where one invalid line "
        "does not affect the others."
    )


def _cut_off_error(name: str, complete: int, detail: str) -> PoolError:
    return PoolError(
        f"{name} is cut off: {complete:,} complete records, then {detail}. Download or write the "
        f"file "
        "again."
    )
