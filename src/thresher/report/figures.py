"""Figures of one column of reasons (histogram with cut-offs, or counts) and helpers for figures of
several columns."""

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


def column_breakdown(selection: LoadedSelection, name: str) -> Panel:
    """Counts of a text or boolean reason among the rows that the method saw.

    Arguments:
        selection: with the reasons.
        name: of the reason.
    """
    values = selection.reasons[name]
    if values.dtype.kind == "b":
        values = np.where(values, "yes", "no")
    return breakdown.by_text(meaning(name, selection.settings).title, values, selection.kept)


def histogram(selection: LoadedSelection, name: str) -> list[Figure]:
    """Histogram of a numeric reason, with cut-offs if the kept rows form one interval; [] without a
    finite value.

    Arguments:
        selection: with the reasons.
        name: of the reason.
    """
    values, kept = selection.reasons[name], selection.kept
    what = meaning(name, selection.settings)
    panel = [Series("pool", "pool", values), Series("kept", "kept", values[kept])]
    shared = chart.scale([panel])
    if shared is None:
        return []
    edges = cuts(values, kept)
    caption = f"{what.direction.capitalize()}." if what.direction else ""
    if edges:
        caption += " Dashed: the cut-off." if len(edges) == 1 else " Dashed: the cut-offs."
    edge_texts = [tick_text(float(f"{value:.3g}")) for value in edges]
    drawn = [value for value in edges if shared.low <= value <= shared.high]
    label = f"{'cut' if len(edges) == 1 else 'cuts'} {' and '.join(edge_texts)}"
    # one label, beyond the last cut, where no kept row is drawn
    labels = [(value, label if value == drawn[-1] else "") for value in drawn]
    if not shared.whole and len(finite(values)):
        caption += " The outermost bars include the half percent beyond them."
    svg = distribution(
        panel, shared, what.axis, f"{what.title}: distribution of pool and kept rows.", labels
    )
    return [Figure(what.title, svg, caption.strip(), (POOL, KEPT), quantiles(panel))]


def cuts(values: np.ndarray, kept: np.ndarray) -> list[float]:
    """Ends of the interval of kept values that have dropped rows beyond them; [] if the kept rows
    do not form one interval.

    Arguments:
        values: the reason, [c].
        kept: bool [c].
    """
    inside, outside = finite(values[kept]), finite(values[~kept])
    if not len(inside) or not len(outside):
        return []
    low, high = float(inside.min()), float(inside.max())
    if np.any((outside > low) & (outside < high)):
        return []
    return [end for end, beyond in ((low, outside <= low), (high, outside >= high)) if beyond.any()]


def random_sample(selection: LoadedSelection) -> np.ndarray:
    """Positions, int64 [k], of a seeded random sample with as many rows as were kept."""
    order = np.argsort(selection.sampling_keys[selection.rows], kind="stable")
    return order[: int(selection.kept.sum())]


def quantiles(panel: Sequence[Series]) -> tuple[tuple[str, ...], ...]:
    """A table of quantiles and mean per series, header first."""
    head = ("", "rows", "5%", "25%", "median", "75%", "95%", "mean")
    rows: list[tuple[str, ...]] = [head]
    for series in panel:
        v = finite(series.values)
        if len(v):
            numbers = [*np.percentile(v, [5, 25, 50, 75, 95]), v.mean()]
            rows.append((series.name, f"{len(v):,}", *(tick_text(float(x)) for x in numbers)))
    return tuple(rows)
