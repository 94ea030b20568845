"""Exporters: write selected rows of a pool in trainers' formats. One file per family of formats."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError, did_you_mean
from thresher.exporters.options import Options
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_folder

if TYPE_CHECKING:
    from thresher.pools import Pool

Write = Callable[["Pool", np.ndarray, Path, str, Options], tuple[str, ...]]

FORMATS: dict[str, str] = {  # name -> module:function, a Write, which returns notes
    "llava": "thresher.exporters.llava:export",
    "llava-json": "thresher.exporters.llava:export",
    "llava-jsonl": "thresher.exporters.llava:export",
    "sharegpt": "thresher.exporters.sharegpt:export",
    "sharegpt-json": "thresher.exporters.sharegpt:export",
    "sharegpt-jsonl": "thresher.exporters.sharegpt:export",
    "llamafactory": "thresher.exporters.llamafactory:export",
    "swift": "thresher.exporters.swift:export",
    "swift-jsonl": "thresher.exporters.swift:export",
    "messages": "thresher.exporters.messages:export",
    "messages-json": "thresher.exporters.messages:export",
    "messages-jsonl": "thresher.exporters.messages:export",
    "parquet": "thresher.exporters.parquet:export",
    "webdataset": "thresher.exporters.webdataset:export",
}


def export(
    pool: Pool,
    rows: Iterable[int],
    path: Path,
    format: str | None = None,
    options: Options | None = None,
) -> tuple[str, ...]:
    """Write `rows` of the pool to `path`, in pool order; returns notes on what was lost.

    A file is written atomically.

    Arguments:
        pool: the pool.
        rows: row numbers, any order.
        path: the output file or, for some formats, folder.
        format: a name of `FORMATS`, or the pool's own (`raw.py`); None: `default(pool)`.
        options: how images are named.

    Raises ConfigError (unknown format, path not writable or part of the pool), PoolError
    (unreadable row), StoreError (disk full).
    """
    from thresher.exporters import raw
    from thresher.exporters.target import check

    options = options or Options()
    name = format or default(pool)[0]
    if name not in FORMATS and name != pool.format:
        known = ", ".join(FORMATS)
        raise ConfigError(
            f"There is no format {name!r}. Known: {known}.{did_you_mean(name, list(FORMATS))}"
        )
    sorted_rows = np.sort(
        np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), np.int64)
    )
    check(pool, sorted_rows, path)
    use_declared = format is None and declared(pool)
    plain = options.plain and raw.fits(pool, name, path)
    if not use_declared and not plain and name not in FORMATS:
        raise ConfigError(f"{name} can only be copied unchanged. Give one of {', '.join(FORMATS)}.")
    check_folder(path.parent)
    with folder_lock(path.parent, "exports rows there"):
        if use_declared:
            from thresher.exporters.llamafactory import export_as_declared

            return export_as_declared(pool, sorted_rows, path)
        if plain:
            return raw.export(pool, sorted_rows, path, name)
        module, _, function = FORMATS[name].partition(":")
        write: Write = getattr(importlib.import_module(module), function)
        return write(pool, sorted_rows, path, name, options)


def declared(pool: Pool) -> bool:
    """Whether the pool is one JSON or JSONL file described by a dataset_info.json."""
    return (
        len(pool.pool_files) == 1
        and pool.format == "llamafactory"
        and pool.pool_files[0].container in ("json", "jsonl")
    )


def default(pool: Pool) -> tuple[str, str]:
    """(format, file extension) that preserves rows of this pool best in one file.

    For one JSON or JSONL file: its own records, unchanged (with the dataset_info.json that
    describes it). If records contain image bytes: parquet. Else LLaVA JSON.
    """
    from thresher.exporters import raw

    if raw.fits(pool, pool.format, Path("subset.json")) or raw.fits(
        pool, pool.format, Path("subset.jsonl")
    ):
        return pool.format, ".jsonl" if pool.format.endswith("jsonl") else ".json"
    if declared(pool):
        return pool.format, "." + pool.pool_files[0].container
    if pool.index.embedded.any():
        return "parquet", ".parquet"
    return "llava-json", ".json"
