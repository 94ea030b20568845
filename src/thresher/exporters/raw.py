"""Byte-for-byte copies of rows of one JSON or JSONL file: nothing is lost or reformatted.

JSON: `[`, the records separated by `,` and a line break, `]`. JSONL: one line each; only line
breaks (and white space around them) between tokens of a pretty-printed record are removed. Memory:
one record.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.exporters import target
from thresher.exporters.rows import clean, encodable
from thresher.pools.llava import decode

if TYPE_CHECKING:
    from thresher.pools import Pool

# never inside a string: JSON has no raw line breaks there
_BREAK = re.compile(rb"(?:(?<![ \t])[ \t]+)?[\r\n][ \t\r\n]*")


def fits(pool: Pool, format: str, path: Path) -> bool:
    """Whether rows of this pool can be copied byte for byte in this format.

    Arguments:
        pool: the pool.
        format: name of the format.
        path: the file to write.
    """
    part = pool.pool_files[0]
    if (
        len(pool.pool_files) > 1
        or part.container not in ("json", "jsonl")
        or part.layout == "llamafactory"
    ):
        return False
    layout, _, _ = format.partition("-")
    return layout == part.layout


def export(pool: Pool, rows: np.ndarray, path: Path, format: str) -> tuple[str, ...]:
    """Copy the exact bytes of rows.

    Arguments:
        pool: the pool.
        rows: int64 [k], pool rows in the order of the export.
        path: the file to write.
        format: one that `fits`; without -json or -jsonl, the file name decides.
    """
    pieces = jsonl if is_lines(format, path) else json_list
    copies = Copies(pool, rows)
    target.write(target.file(path), pieces(copies))
    return copies.notes()


class Copies:
    """The exact bytes of rows, and a note on those that are not valid UTF-8.

    Arguments:
        pool: the pool.
        rows: int64 [k], pool rows in the order of the export.
    """

    def __init__(self, pool: Pool, rows: np.ndarray) -> None:
        self.pool, self.rows = pool, rows
        self._invalid = 0  # rows
        self._fields: Counter[str] = Counter()  # rows by the field that is not valid

    def __iter__(self) -> Iterator[bytes]:
        for record in self.pool.raw(self.rows):
            if not record.isascii():
                try:
                    record.decode("utf-8")
                except UnicodeDecodeError:
                    self._invalid += 1
                    fields = decode(record)
                    if isinstance(fields, dict):
                        self._fields.update(k for k, v in fields.items() if not encodable({k: v}))
            yield record

    def notes(self) -> tuple[str, ...]:
        """A note if rows are not valid UTF-8; complete after the last row."""
        if not self._invalid:
            return ()
        fields = ", ".join(f"{clean(name)!r} {n:,}" for name, n in self._fields.most_common(5))
        one = self._invalid == 1
        return (
            f"{self._invalid:,} {'row has' if one else 'rows have'} text that is not valid UTF-8"
            f"{f' (rows by field: {fields})' if fields else ''}. The file has the same bytes as "
            "the pool, so a reader that checks the encoding, as trainers do, refuses it. `thresher "
            "doctor POOL --fix COPY` writes a repaired copy of the pool, to select from.",
        )


def is_lines(format: str, path: Path) -> bool:
    """Whether a format is JSONL, by its name, else by the file's name.

    Arguments:
        format: name of the format.
        path: the file to write.
    """
    kind = format.partition("-")[2]
    return kind == "jsonl" if kind else path.suffix.lower() in (".jsonl", ".ndjson")


def json_list(records: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks of a JSON list, one record per line."""
    yield b"[\n"
    for i, record in enumerate(records):
        yield b",\n" + record if i else record
    yield b"\n]\n"


def jsonl(records: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks of a JSONL file."""
    for record in records:
        if b"\n" in record or b"\r" in record:
            record = _BREAK.sub(b"", record)
        yield record + b"\n"
