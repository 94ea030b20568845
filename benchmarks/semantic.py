"""Semantic duplicates in cells against comparing all pairs: duplicates found, and CPU time.

Synthetic vectors of one form (the worst case: rows of different forms are never compared): rows
around directions, with as many directions per row in each size; one row in ten is near another one,
at cosines from 0.92 to 1. With `--pool`, also the vectors of a real pool under the built-in model,
as if all its rows had the same form.

Small pools are divided into smaller cells than `select` uses, so that there are as many boundaries
between cells as in a large pool.

    python benchmarks/semantic.py [--rows 10000 40000 …] [--all-pairs-until N]
        [--pool POOL --images DIR]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thresher.console.peak_memory import peak_bytes
from thresher.duplicates import cells, semantic
from thresher.duplicates.embedding import PARTS, RowEmbedding
from thresher.signals.vectors import WIDTH, as_bytes

ALL_PAIRS_UNTIL = 40_000  # rows up to which all pairs are compared, too, at all thresholds
DIRECTIONS = 200  # rows per direction
COPIES = 0.1  # share of rows that are near another one
FARTHEST = 0.42  # length of the noise that is added to a copy
THRESHOLDS = (0.90, 0.95, 0.98)
Values = Mapping[str, np.ndarray]


def synthetic(rows: int, seed: int = 0) -> Values:
    """Fields of `RowEmbedding`."""
    rng = np.random.default_rng(seed)
    directions = max(rows // DIRECTIONS, 1)
    topic = rng.integers(0, directions, rows)
    copies = np.flatnonzero(rng.random(rows) < COPIES)
    copies = copies[copies > 0]
    originals = rng.integers(0, copies)
    noise = (rng.uniform(0, FARTHEST, (len(copies), 1)) / np.sqrt(WIDTH)).astype(np.float32)
    out = {}
    for part in PARTS:
        base = rng.standard_normal((directions, WIDTH), np.float32)
        vectors = base[topic] + rng.standard_normal((rows, WIDTH), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        moved = noise * rng.standard_normal((len(copies), WIDTH), np.float32)
        vectors[copies] = vectors[originals] + moved
        out[part] = as_bytes(vectors)
    return out | {"form": np.full(rows, b"one", "S8")}


def of_pool(pool: str, images: str | None) -> Values:
    """The vectors of a pool's rows under the built-in model."""
    from thresher.backends import resolve
    from thresher.engine import RunContext
    from thresher.engine.columns import compute_all
    from thresher.pools import open_pool
    from thresher.request import RunRequest
    from thresher.storage.columns import Store

    opened, model = open_pool(pool, images), resolve("demo", device="cpu")
    signal = RowEmbedding(model.identity)
    with tempfile.TemporaryDirectory() as folder:
        context = RunContext(Store(Path(folder)), model)
        request = RunRequest(on_missing="exclude")
        (column,) = compute_all({"v": signal}, opened, request, context).values()
    values = {name: a[column.known] for name, a in column.values.items()}
    return values | {"form": np.full(int(column.known.sum()), b"one", "S8")}


def groups(values: Values, threshold: float, all_pairs: bool) -> tuple[np.ndarray, float]:
    """Representative of each row, and the CPU seconds."""
    rows = len(values["form"])
    semantic.ALL_PAIRS = rows if all_pairs else 0
    order = np.random.default_rng(1).permutation(rows)
    start = time.process_time()
    found = semantic.semantic_groups(values, order, threshold)
    return found, time.process_time() - start


def measure(name: str, values: Values, thresholds: tuple[float, ...], all_pairs_until: int) -> None:
    """Print a line for each threshold."""
    rows = len(values["form"])
    default = cells.CELL_ROWS
    if rows < 20 * default:
        cells.CELL_ROWS = max(rows // 40, 32)
    for threshold in thresholds:
        found, seconds = groups(values, threshold, False)
        ours = found != np.arange(rows)
        line = f"| {name}, {rows:,} | {threshold:.2f} | {-(-rows // cells.CELL_ROWS)} | "
        if rows <= all_pairs_until:
            whole, took = groups(values, threshold, True)
            theirs = whole != np.arange(rows)
            recall = (ours & theirs).sum() / max(theirs.sum(), 1)
            line += f"{theirs.sum():,} | {ours.sum():,} | {recall:.1%} | {took:.1f} | "
        else:
            line += f"– | {ours.sum():,} | – | – | "
        print(f"{line}{seconds:.1f} |", flush=True)
    cells.CELL_ROWS = default


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 40_000, 100_000])
    parser.add_argument("--all-pairs-until", type=int, default=ALL_PAIRS_UNTIL, metavar="N")
    parser.add_argument("--pool")
    parser.add_argument("--images")
    a = parser.parse_args()
    print(
        "| vectors, rows | threshold | cells | left out, all pairs | left out, cells | recall | "
        "CPU s, all pairs | CPU s, cells |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for rows in a.rows:
        thresholds = THRESHOLDS if rows <= ALL_PAIRS_UNTIL else (semantic.THRESHOLD,)
        measure("synthetic", synthetic(rows), thresholds, a.all_pairs_until)
    if a.pool:
        values = of_pool(a.pool, a.images)
        measure(Path(a.pool).parent.name, values, THRESHOLDS, a.all_pairs_until)
    print(f"Peak memory: {peak_bytes() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
