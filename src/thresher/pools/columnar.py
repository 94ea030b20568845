"""Reads the rows of a parquet file, or of the Arrow files that `datasets` writes, by row number.

Reading a parquet row loads its row group; the last groups are cached (up to `MAX_CACHED_BYTES`), so
reading rows in file order loads each group once. Arrow files are mapped into memory.
"""

from __future__ import annotations

import json
import mmap
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thresher.errors import PoolError, opt
from thresher.pools.llava import json_default
from thresher.pools.records import Record, Span

MAX_CACHED_BYTES = 256 << 20
_BATCH_ROWS = 128  # decoded at a time: rows may contain images


class _TableReader(ABC):
    """What the readers of parquet and Arrow files share: rows by number."""

    name: str

    @abstractmethod
    def slices(self) -> Iterator[pa.Table | pa.RecordBatch]:
        """All rows in order, in pieces."""

    @abstractmethod
    def row(self, number: int) -> pa.Table | pa.RecordBatch:
        """One row, as a table of one."""

    def records(self, span: Span | None = None) -> Iterator[Record]:
        number = 0
        try:
            for part in self.slices():
                for start in range(0, part.num_rows, _BATCH_ROWS):
                    for value in _decode_rows(part.slice(start, _BATCH_ROWS)):
                        yield Record(number, 0, value, "" if value is not None else _UNDECODABLE)
                        number += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            raise PoolError(
                f"{self.name} cannot be read beyond row {number}: {error}. Is it cut off? "
                "Download or write it again."
            ) from error

    def value(self, offset: int, length: int) -> Any:
        try:
            return _decode_rows(self.row(offset))[0]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise PoolError(f"Row {offset} of {self.name} cannot be read: {error}.") from error

    def raw(self, offset: int, length: int) -> bytes:
        return row_as_json(self.value(offset, length))

    def remarks(self) -> list[str]:
        return []


_UNDECODABLE = "unreadable: the row has text that is not valid UTF-8"


def row_as_json(value: Any) -> bytes:
    """A row as JSON; bytes are replaced by their hash."""
    try:
        return json.dumps(value, default=json_default).encode("ascii")
    except (TypeError, RecursionError):
        return ascii(value).encode("ascii")


def _decode_rows(part: Any) -> list[Any]:
    try:
        return list(part.to_pylist())
    except UnicodeDecodeError:
        if part.num_rows == 1:
            return [None]
        return [row for i in range(part.num_rows) for row in _decode_rows(part.slice(i, 1))]


class ParquetReader(_TableReader):
    """See `readers.RecordReader`; `offset` is the row's number in the file."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.row_groups: OrderedDict[int, pa.Table] = OrderedDict()
        try:
            self.underlying = file  # keep a reference: it is closed when unreferenced
            self.file = pq.ParquetFile(file)
            metadata = self.file.metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise PoolError(
                f"{name} is damaged or not a parquet file: {reason}. Download or write it "
                f"again, or give its true {opt('format')}."
            ) from error
        self.ends = np.cumsum(np.asarray(sizes, np.int64))
        self.columns = [str(c) for c in self.file.schema_arrow.names]

    def slices(self) -> Iterator[pa.RecordBatch]:
        yield from self.file.iter_batches(batch_size=_BATCH_ROWS)

    def row(self, number: int) -> pa.Table:
        group = int(np.searchsorted(self.ends, number, side="right"))
        with self.lock:
            table = self.row_groups.get(group)
            if table is None:
                table = self.file.read_row_group(group)
                self.row_groups[group] = table
                while (
                    len(self.row_groups) > 1
                    and sum(t.nbytes for t in self.row_groups.values()) > MAX_CACHED_BYTES
                ):
                    self.row_groups.popitem(last=False)
            self.row_groups.move_to_end(group)
        return table.slice(number - (int(self.ends[group - 1]) if group else 0), 1)


class ArrowReader(_TableReader):
    """See `readers.RecordReader`; an Arrow stream (what `datasets` saves) or file."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        try:
            content = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            if content[:6].to_pybytes() == b"ARROW1":
                reader = pa.ipc.open_file(content)
                batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
                schema = reader.schema
            else:
                stream = pa.ipc.open_stream(content)
                batches, schema = list(stream), stream.schema
        except (pa.ArrowException, OSError, ValueError) as error:
            raise PoolError(
                f"{name} is a damaged Arrow file: {error}. Download or write it again."
            ) from error
        self.batches = batches
        self.validated = [False] * len(batches)
        self.ends = np.cumsum(np.asarray([b.num_rows for b in batches], np.int64))
        self.columns = [str(c) for c in schema.names]

    def slices(self) -> Iterator[pa.RecordBatch]:
        yield from map(self._batch, range(len(self.batches)))

    def row(self, number: int) -> pa.RecordBatch:
        batch = int(np.searchsorted(self.ends, number, side="right"))
        return self._batch(batch).slice(number - (int(self.ends[batch - 1]) if batch else 0), 1)

    def _batch(self, number: int) -> pa.RecordBatch:
        """A record batch, validated once: an offset outside the file would crash the process.
        Raises pa.ArrowInvalid.
        """
        if not self.validated[number]:
            for column in self.batches[number].columns:
                _validate(column)
            self.validated[number] = True
        return self.batches[number]


def _validate(array: pa.Array) -> None:
    """Raises pa.ArrowInvalid for an invalid offset; text that is not UTF-8 is only its row's
    problem.
    """
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        kind = array.type  # what follows the invalid text was not validated yet
        inside = (
            array.flatten()
            if pa.types.is_struct(kind)
            else [array.values]
            if hasattr(array, "values")
            else []
        )
        for one in inside:
            _validate(one)
