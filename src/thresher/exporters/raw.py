"""Rows of one JSON or JSONL file, copied: the records' own bytes, so that nothing of them is lost or reformatted.

JSON: `[`, the records joined by `,` and a line break, `]`. JSONL: a line each; only line breaks (and the white space
around them) between the tokens of a pretty-printed record are taken out. Memory: one record.
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

_BREAK = re.compile(
    rb"(?:(?<![ \t])[ \t]+)?[\r\n][ \t\r\n]*"
)  # never inside a string: JSON has no raw line breaks there


def fits(pool: Pool, format: str, path: Path) -> bool:
    """Whether rows of this pool in this format are the bytes of its file."""
    part = pool.parts[0]
    if len(pool.parts) > 1 or part.container not in ("json", "jsonl") or part.layout == "llamafactory":
        return False
    layout, _, _ = format.partition("-")
    return layout == part.layout


def export(pool: Pool, rows: np.ndarray, path: Path, format: str) -> tuple[str, ...]:
    """Copy `rows`. `format`: one that `fits`; without -json or -jsonl, the name of the file decides."""
    pieces = jsonl if is_lines(format, path) else json_list
    target.write(target.file(path), pieces(pool.raw(rows)))
    return ()


def is_lines(format: str, path: Path) -> bool:
    """Whether a format is JSONL: as its name says, else as the file's does."""
    kind = format.partition("-")[2]
    return kind == "jsonl" if kind else path.suffix.lower() in (".jsonl", ".ndjson")


def json_list(records: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a JSON list, a record a line."""
    yield b"[\n"
    for i, record in enumerate(records):
        yield b",\n" + record if i else record
    yield b"\n]\n"


def jsonl(records: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a JSONL file."""
    for record in records:
        if b"\n" in record or b"\r" in record:
            record = _BREAK.sub(b"", record)
        yield record + b"\n"
