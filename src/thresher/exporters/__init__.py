"""Exporters: write chosen rows of a pool in a format that trainers take. One explicit table, one file a family of formats."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, nearest

if TYPE_CHECKING:
    from thresher.pools import Pool

FORMATS: dict[str, str] = {  # name -> module:function with the signature of `export`
    "llava-json": "thresher.exporters.llava:export",
    "llava-jsonl": "thresher.exporters.llava:export",
}
EXTENSION: dict[str, str] = {"llava-json": ".json", "llava-jsonl": ".jsonl"}


def export(pool: Pool, rows: Iterable[int], path: Path, format: str | None = None) -> None:
    """Write `rows` of the pool to `path`, in pool order. `format`: a name of `FORMATS`; None: the format of the pool.

    Raises ConfigError (unknown format, a path that cannot be written, the pool's own file), PoolError (a row that is
    no record), StoreError (disk full). The file appears complete or not at all.
    """
    name = format or pool.format
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise ConfigError(f"There is no format {name!r}. Known: {known}.{nearest(name, list(FORMATS))}")
    module, _, function = FORMATS[name].partition(":")
    write: Callable[[Pool, Iterable[int], Path, str], None] = getattr(importlib.import_module(module), function)
    write(pool, rows, path, name)
