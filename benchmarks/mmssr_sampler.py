"""Benchmark of mmSSR's sampler at 2.6 million rows: time and memory against the published algorithm
in pandas; checks that both select the same rows.

The pool is synthetic: 14 scores of 0 to 5, 9 styles (1.6 per row), 100 sources of very different
sizes; 30% are kept. The baseline is tests/samplers/published_mmssr.py, a plain implementation of
the published algorithm with stable sorts. Memory is measured in separate runs with tracemalloc,
without the columns.

    python benchmarks/mmssr_sampler.py [--quick] [--json FILE] [--rows N] [--repeat N]
    [--without-peer]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

# for the peer, which the tests use too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from thresher.samplers import RoundRobin, round_robin
from thresher.signals.capabilities import CAPABILITIES, STYLES

SOURCES = tuple(f"source_{i:03d}" for i in range(100))
# of the rows that have each style
SHARE = np.array([0.2, 0.05, 0.2, 0.4, 0.2, 0.1, 0.08, 0.1, 0.05])


def made_up(rows: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Synthetic (expected scores, styles, source, ties)."""
    rng = np.random.default_rng(0)
    quality = rng.random(rows)
    scores = [
        (5 * (0.4 * quality + 0.6 * rng.random(rows))).astype(np.float32) for _ in CAPABILITIES
    ]
    styles = rng.random((rows, len(STYLES))) < SHARE
    styles[~styles.any(axis=1), 3] = True
    source = np.minimum((rng.pareto(1.0, rows) * 10).astype(np.int32), len(SOURCES) - 1)
    return scores, styles, source, rng.integers(0, 2**63, rows).astype(np.uint64)


def published_table(scores: list[np.ndarray], styles: np.ndarray, source: np.ndarray) -> Any:
    """The table that the published algorithm selects from, a pandas DataFrame."""
    import pandas as pd

    rows, (n, kinds) = {}, styles.shape
    most = int(styles.sum(axis=1).max())
    listed = np.full((n, most), None, dtype=object)
    place = np.cumsum(styles, axis=1) - 1
    for s in range(kinds):
        names = np.array([f"{STYLES[s]}+{name}" for name in SOURCES], dtype=object)
        has = np.flatnonzero(styles[:, s])
        listed[has, place[has, s]] = names[source[has]]
    rows.update({c.name: score for c, score in zip(CAPABILITIES, scores, strict=True)})
    rows.update({f"sty_{j + 1}": listed[:, j] for j in range(most)})
    return pd.DataFrame(rows)


def published(
    scores: list[np.ndarray], styles: np.ndarray, source: np.ndarray, k: int
) -> tuple[list[int], float]:
    """Rows selected by the published algorithm, and its time in seconds without building its
    table."""
    from tests.samplers.published_mmssr import select

    table = published_table(scores, styles, source)
    start = time.perf_counter()
    chosen = select(table, [c.name for c in CAPABILITIES], k)
    return chosen, time.perf_counter() - start


def timed(call: Callable[[], RoundRobin], repeat: int) -> tuple[RoundRobin, float, float]:
    """The result, the fastest of `repeat` runs in seconds, and the additional peak memory in GB."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        out = call()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return out, min(seconds), peak / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    parser.add_argument("--rows", type=int)
    parser.add_argument(
        "--repeat", type=int, default=5, help="runs of ours, of which the fastest counts"
    )
    parser.add_argument("--without-peer", action="store_true", help="ours alone")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = arguments.rows or (100_000 if arguments.quick else 2_600_000)
    k = rows * 3 // 10
    scores, styles, source, ties = made_up(rows)
    whole = [np.round(score) for score in scores]
    names = (STYLES, SOURCES)
    table = Table(title=f"{rows:,} rows, {styles.sum() / rows:.2f} styles a row, {k:,} kept")
    for column in ("", "ours s", "pandas s", "ratio", "GB above the columns", "same rows"):
        table.add_column(column, justify="left" if not column else "right")
    results: list[dict[str, Any]] = []
    for name, given, official in (
        ("expected scores", scores, False),
        ("whole scores, compat=official", whole, True),
    ):
        call = lambda given=given, official=official: round_robin(  # noqa: E731
            given, styles, k, ties, source=source, names=names, official=official
        )
        out, ours, memory = timed(call, arguments.repeat)
        line = [name, f"{ours:.2f}", "-", "-", f"{memory:.2f}", "-"]
        results.append({"name": f"{name}: seconds", "ours": ours, "limit": 1.5, "unit": "s"})
        results.append(
            {
                "name": f"{name}: memory above the columns",
                "ours": memory,
                "limit": 1.0,
                "unit": "GB",
            }
        )
        if official and not arguments.without_peer:
            chosen, peer = published(given, styles, source, k)
            same = out.rows.tolist() == chosen
            line = [
                name,
                f"{ours:.2f}",
                f"{peer:.1f}",
                f"{peer / ours:.0f}x",
                f"{memory:.2f}",
                "yes" if same else "NO",
            ]
            results[-2].update({"peer": peer, "ratio": peer / ours, "same_rows": same})
            if not same:
                raise SystemExit("The two do not select the same rows.")
        table.add_row(*line)
    Console(width=110).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
