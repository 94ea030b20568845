"""Reads the records of a JSON list or a JSONL file by byte range (`records.py`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from thresher.pools import llava
from thresher.pools.records import Record, Span, iter_records


class JsonReader:
    """See `readers.RecordReader`."""

    def __init__(self, file: BinaryIO, name: str, kind: str) -> None:
        self.file, self.name, self.kind = file, name, kind

    def records(self, span: Span | None = None) -> Iterator[Record]:
        return iter_records(self.file, self.kind, self.name, span)

    def value(self, offset: int, length: int) -> Any:
        return llava.decode(self.raw(offset, length))

    def raw(self, offset: int, length: int) -> bytes:
        return os.pread(self.file.fileno(), length, offset)

    def remarks(self) -> list[str]:
        return []
