"""Atomic writing of one export file, and the checks before it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from thresher.errors import ConfigError, PoolError, StoreError
from thresher.storage.atomic import DISK_ERRORS, atomic_write

if TYPE_CHECKING:
    from thresher.pools import Pool


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `path` when the block ends without an error.

    Raises ConfigError or StoreError.
    """
    try:
        with atomic_write(path) as temporary, open(temporary, "xb", buffering=1 << 20) as out:
            yield out
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in DISK_ERRORS:
            raise StoreError(
                f"{path} could not be written: {reason}. Free some space there, or give another "
                "folder."
            ) from error
        raise ConfigError(
            f"{path} cannot be written: {reason}. Give a file in a folder that you may write to."
        ) from error


def write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file of `pieces` atomically. Raises ConfigError or StoreError.

    Arguments:
        path: the file to write.
        pieces: its content.
    """
    with open_atomic(path) as out:
        out.writelines(pieces)


def check(pool: Pool, rows: np.ndarray, path: Path) -> None:
    """Raise, before anything is written, for rows that cannot be exported and unwritable paths.

    Arguments:
        pool: the pool.
        rows: int64 [k], pool rows.
        path: the file to write.
    """
    if len(rows) and (rows[0] < 0 or rows[-1] >= len(pool)):
        raise IndexError(f"rows {rows[0]} to {rows[-1]} of a pool of {len(pool)}")
    above = next((p for p in path.parents if p.exists()), path.parent)
    if not above.is_dir():
        raise ConfigError(
            f"{path} cannot be written: {above} is a file, not a folder. Give a file in a folder."
        )
    refuse_overwrite(pool, path)
    unreadable = rows[pool.unreadable[rows]]
    if len(unreadable):
        row = int(unreadable[0])
        raise PoolError(
            f"{len(unreadable)} of the rows to export are not LLaVA records (row {row}: "
            f"{pool.problems[row]}). Leave them out; `thresher doctor` lists them."
        )


def refuse_overwrite(pool: Pool, path: Path) -> None:
    """Raise ConfigError if `path` is a file of the pool.

    Arguments:
        pool: the pool.
        path: the file to write.
    """
    if path.is_file() and any(
        os.path.exists(s.uri) and os.path.samefile(path, s.uri) for s in pool.file_specs
    ):
        raise ConfigError(
            f"{path} is the pool itself and will not be overwritten. Give another file."
        )


def file(path: Path) -> Path:
    """`path`, which must not be a folder. Raises ConfigError."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file in it.")
    return path
