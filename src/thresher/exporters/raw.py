"""Byte-for-byte copies of rows of one JSON or JSONL file: nothing is lost or reformatted.

JSON: `[`, the records separated by `,` and a line break, `]`. JSONL: one line each; only line
breaks (and white space around them) between tokens of a pretty-printed record are removed. Memory:
one record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.exporters import target

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
    target.write(target.file(path), pieces(pool.raw(rows)))
    return ()


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
