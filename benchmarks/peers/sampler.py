"""mmSSR's sampler: the published algorithm in pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.comparison import Comparison, Job, Tool

SHARE = 0.3  # of the rows, that are kept


def make(folder: Path, rows: int) -> None:
    import numpy as np
    from benchmarks.mmssr_sampler import made_up

    scores, styles, source, ties = made_up(rows)
    np.savez(
        folder / "columns.npz", scores=np.round(scores), styles=styles, source=source, ties=ties
    )


def _inputs(folder: Path) -> tuple[Any, Any, Any, Any, int]:
    """(scores, styles, source, ties, number of rows to keep)."""
    import numpy as np

    with np.load(folder / "columns.npz") as stored:
        values = dict(stored)
    k = int(SHARE * len(values["source"]))
    return list(values["scores"]), values["styles"], values["source"], values["ties"], k


def thresher(folder: Path, scratch: Path) -> Job:
    from benchmarks.mmssr_sampler import SOURCES, STYLES

    from thresher.samplers import round_robin

    scores, styles, source, ties, k = _inputs(folder)

    def run() -> list[int]:
        names = (STYLES, SOURCES)
        out = round_robin(scores, styles, k, ties, source=source, names=names, official=True)
        rows: list[int] = out.rows.tolist()
        return rows

    return run


def pandas_sampler(folder: Path, scratch: Path) -> Job:
    from benchmarks.mmssr_sampler import published_table

    from tests.samplers.published_mmssr import select
    from thresher.signals.capabilities import CAPABILITIES

    scores, styles, source, _, k = _inputs(folder)
    table = published_table(scores, styles, source)
    return lambda: [int(row) for row in select(table, [c.name for c in CAPABILITIES], k)]


def judge(folder: Path, ours: Any, theirs: Any) -> tuple[str, bool]:
    same = ours == theirs
    text = f"{len(theirs):,} rows, {'the same' if same else 'NOT the same'} in the same order"
    return text, same


COMPARISON = Comparison(
    title="mmSSR's sampler",
    job=f"Keep {SHARE:.0%} of the rows from 14 scores, 9 styles and 100 sources "
    "(`benchmarks/mmssr_sampler.py`); columns and the table are made beforehand. Peer: the "
    "published algorithm in pandas, with stable sorts (`tests/samplers/published_mmssr.py`).",
    rows=30_000,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(Tool("pandas, as published", pandas_sampler),),
    judge=judge,
)
