"""Exporters: write chosen rows of a pool in a format that trainers take. One explicit table, one file a family of formats."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError, nearest
from thresher.exporters.options import Options
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_folder

if TYPE_CHECKING:
    from thresher.pools import Pool

Write = Callable[["Pool", np.ndarray, Path, str, Options], tuple[str, ...]]

FORMATS: dict[str, str] = {  # name -> module:function, a Write; it gives what the user should know, in words
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
    """Write `rows` of the pool to `path`, in pool order, and return what was lost or should be known, in words.

    `format`: a name of `FORMATS`, or the pool's own (`raw.py`); None: `default(pool)`. A file appears complete or not at all.
    Raises ConfigError (unknown format, a path that cannot be written, a file of the pool), PoolError (a row that is no
    record), StoreError (disk full).
    """
    from thresher.exporters import raw
    from thresher.exporters.target import check

    options = options or Options()
    name = format or default(pool)[0]
    if name not in FORMATS and name != pool.format:
        known = ", ".join(FORMATS)
        raise ConfigError(f"There is no format {name!r}. Known: {known}.{nearest(name, list(FORMATS))}")
    wanted = np.sort(np.fromiter((int(r) for r in rows), np.int64))
    check(pool, wanted, path)
    as_declared = format is None and declared(pool)
    plain = options.plain and raw.fits(pool, name, path)
    if not as_declared and not plain and name not in FORMATS:
        raise ConfigError(f"{name} is only copied as it stands. Give one of {', '.join(FORMATS)}.")
    check_folder(path.parent)
    with folder_lock(path.parent, "exports rows there"):
        if as_declared:
            from thresher.exporters.llamafactory import export_as_declared

            return export_as_declared(pool, wanted, path)
        if plain:
            return raw.export(pool, wanted, path, name)
        module, _, function = FORMATS[name].partition(":")
        write: Write = getattr(importlib.import_module(module), function)
        return write(pool, wanted, path, name, options)


def declared(pool: Pool) -> bool:
    """Whether the pool is one JSON or JSONL file that an entry of a dataset_info.json describes."""
    return len(pool.parts) == 1 and pool.format == "llamafactory" and pool.parts[0].container in ("json", "jsonl")


def default(pool: Pool) -> tuple[str, str]:
    """(format, file extension) that keeps rows of this pool best in one file.

    One JSON or JSONL file: its own records, as they stand (with the dataset_info.json that describes it).
    Where records hold image bytes: parquet. Else LLaVA JSON.
    """
    from thresher.exporters import raw

    if raw.fits(pool, pool.format, Path("subset.json")) or raw.fits(pool, pool.format, Path("subset.jsonl")):
        return pool.format, ".jsonl" if pool.format.endswith("jsonl") else ".json"
    if declared(pool):
        return pool.format, "." + pool.parts[0].container
    if pool.index.embedded.any():
        return "parquet", ".parquet"
    return "llava-json", ".json"
