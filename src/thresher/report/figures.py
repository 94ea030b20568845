"""Figures of one column: its distribution with the cut, or its counts; and what figures of several
columns share.

Drawn from a selection's reasons alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thresher.console.formatting import tick_text
from thresher.report import breakdown, chart
from thresher.report.breakdown import Panel
from thresher.report.chart import Figure, Series, distribution, finite
from thresher.report.columns import meaning
from thresher.report.folder import LoadedSelection

POOL, KEPT, RANDOM = (
    ("pool", "pool"),
    ("kept", "kept"),
    ("random", ("random sample of the same size")),
)


def column_breakdown(made: LoadedSelection, name: str) -> Panel:
    """Counts by a text or truth value of the rows that the method saw."""
    values = made.reasons[name]
    if values.dtype.kind == "b":
        values = np.where(values, "yes", "no")
    return breakdown.by_text(meaning(name, made.settings).title, values, made.kept)


def one(made: LoadedSelection, name: str) -> list[Figure]:
    """The distribution of one number, with the cut where the kept rows are one stretch of it."""
    values, kept = made.reasons[name], made.kept
    what = meaning(name, made.settings)
    panel = [Series("pool", "pool", values), Series("kept", "kept", values[kept])]
    shared = chart.scale([panel])
    if shared is None:
        return []
    edges = cuts(values, kept)
    caption = f"{what.direction.capitalize()}." if what.direction else ""
    if edges:
        caption += " Dashed: the cut-off." if len(edges) == 1 else " Dashed: the cut-offs."
    told = [tick_text(float(f"{value:.3g}")) for value in edges]
    drawn = [value for value in edges if shared.low <= value <= shared.high]
    said = f"{'cut' if len(edges) == 1 else 'cuts'} {' and '.join(told)}"
    # one label, beyond the last cut, where no kept row is drawn
    labels = [(value, said if value == drawn[-1] else "") for value in drawn]
    if not shared.whole and len(finite(values)):
        caption += " The outermost bars include the half percent beyond them."
    svg = distribution(
        panel, shared, what.axis, f"{what.title}: distribution of pool and kept rows.", labels
    )
    return [Figure(what.title, svg, caption.strip(), (POOL, KEPT), quantiles(panel))]


def cuts(values: np.ndarray, kept: np.ndarray) -> list[float]:
    """Where the kept rows are one stretch of the values: its ends that have dropped rows beyond. []
    where they are not."""
    inside, outside = finite(values[kept]), finite(values[~kept])
    if not len(inside) or not len(outside):
        return []
    low, high = float(inside.min()), float(inside.max())
    if np.any((outside > low) & (outside < high)):
        return []
    return [end for end, beyond in ((low, outside <= low), (high, outside >= high)) if beyond.any()]


def random_draw(made: LoadedSelection) -> np.ndarray:
    """Positions [k] of a seeded random sample of the same size as were kept."""
    order = np.argsort(made.sampling_keys[made.rows], kind="stable")
    return order[: int(made.kept.sum())]


def quantiles(panel: Sequence[Series]) -> tuple[tuple[str, ...], ...]:
    head = ("", "rows", "5%", "25%", "median", "75%", "95%", "mean")
    rows: list[tuple[str, ...]] = [head]
    for series in panel:
        v = finite(series.values)
        if len(v):
            numbers = [*np.percentile(v, [5, 25, 50, 75, 95]), v.mean()]
            rows.append((series.name, f"{len(v):,}", *(tick_text(float(x)) for x in numbers)))
    return tuple(rows)
