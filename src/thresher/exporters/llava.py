"""LLaVA JSON and JSONL, from a LLaVA pool: the records' own bytes, so that nothing of them is lost or reformatted.

JSON: `[`, the records joined by `,` and a line break, `]`. JSONL: a line each; only line breaks (and the white space
around them) between the tokens of a pretty-printed record are taken out. Writes a temporary file beside the target and
renames it. Memory: one record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from thresher.errors import ConfigError, PoolError, StoreError
from thresher.pools import Pool

_BREAK = re.compile(rb"[ \t]*[\r\n][ \t\r\n]*")  # never inside a string: JSON has no raw line breaks there


def export(pool: Pool, rows: Iterable[int], path: Path, format: str) -> None:
    """See `thresher.exporters.export`. `format`: "llava-json" or "llava-jsonl"."""
    wanted = np.sort(np.fromiter((int(r) for r in rows), np.int64))
    _check(pool, wanted, path)
    pieces = _json(pool.raw(wanted)) if format == "llava-json" else _jsonl(pool.raw(wanted))
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb", buffering=1 << 20) as out:
                out.writelines(pieces)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # gone after the rename; never hide the error that brought us here
                temporary.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise StoreError(
                f"{path} could not be written: {why}. Free some space there, or give another folder."
            ) from error
        raise ConfigError(f"{path} cannot be written: {why}. Give a file in a folder that you may write to.") from error


def _check(pool: Pool, rows: np.ndarray, path: Path) -> None:
    if len(rows) and (rows[0] < 0 or rows[-1] >= len(pool)):
        raise IndexError(f"rows {rows[0]} to {rows[-1]} of a pool of {len(pool)}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file in it.")
    above = next((p for p in path.parents if p.exists()), path.parent)
    if not above.is_dir():
        raise ConfigError(f"{path} cannot be written: {above} is a file, not a folder. Give a file in a folder.")
    if path.exists() and os.path.samefile(path, pool.path):
        raise ConfigError(f"{path} is the pool itself and will not be overwritten. Give another file.")
    unreadable = rows[pool.unreadable[rows]]
    if len(unreadable):
        row = int(unreadable[0])
        raise PoolError(
            f"{len(unreadable)} of the rows to export are no LLaVA records (row {row}: {pool.problems[row]}). Leave them out; "
            "`thresher doctor` lists them."
        )


def _json(records: Iterator[bytes]) -> Iterator[bytes]:
    yield b"[\n"
    for i, record in enumerate(records):
        yield b",\n" + record if i else record
    yield b"\n]\n"


def _jsonl(records: Iterator[bytes]) -> Iterator[bytes]:
    for record in records:
        if b"\n" in record or b"\r" in record:
            record = _BREAK.sub(b"", record)
        yield record + b"\n"
