"""Turns the drawings of a method's explanation into figures and panels of the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thresher.methods.explanation import (
    Bars,
    Counts,
    Distributions,
    Drawing,
    GroupShares,
    Histogram,
    MeanScores,
    Multiples,
)
from thresher.report import breakdown, chart
from thresher.report.breakdown import Panel, Part
from thresher.report.chart import Figure, Series, distribution, finite
from thresher.report.columns import meaning
from thresher.report.figures import (
    KEPT,
    POOL,
    RANDOM,
    column_breakdown,
    histogram,
    quantiles,
    random_sample,
)
from thresher.report.folder import LoadedSelection
from thresher.report.radar import radar
from thresher.samplers import ks_distance


def draw(selection: LoadedSelection, drawing: Drawing) -> list[Figure | Panel]:
    """Figures and panels of one drawing; [] if its columns have nothing to plot.

    Arguments:
        selection: with the columns, among its reasons.
        drawing: of the method's explanation.
    """
    match drawing:
        case Histogram():
            return [*histogram(selection, drawing.column)]
        case Distributions():
            return [*_distributions(selection, drawing)]
        case Multiples():
            return [*_multiples(selection, drawing)]
        case GroupShares():
            return [*_group_shares(selection, drawing)]
        case MeanScores():
            return [*_mean_scores(selection, drawing)]
        case Counts():
            return [*_counts(selection, drawing)]
        case Bars():
            parts = tuple(Part(*part) for part in drawing.parts)
            of_pool, of_kept = drawing.totals
            return [
                Panel(
                    drawing.title,
                    parts,
                    of_pool,
                    of_kept,
                    drawing.note,
                    paired=drawing.paired,
                    heads=drawing.heads,
                    rate_head=drawing.rate,
                )
            ]


def _distributions(selection: LoadedSelection, drawing: Distributions) -> list[Figure]:
    kept, sample = selection.kept, random_sample(selection)
    names = drawing.columns
    panels = []
    for name in names:
        v = selection.reasons[name]
        panels.append(
            [
                Series("pool", "pool", v),
                Series("kept", "kept", v[kept]),
                Series("random", "random", v[sample]),
            ]
        )
    shared = chart.scale(panels)
    figures = []
    for name, panel in zip(names, panels, strict=True):
        if shared is None:
            continue
        what = meaning(name, selection.settings)
        kept_distance = (
            ks_distance(finite(panel[0].values), finite(panel[1].values))
            if len(finite(panel[1].values))
            else 1.0
        )
        random_distance = (
            ks_distance(finite(panel[0].values), finite(panel[2].values))
            if len(finite(panel[2].values))
            else 1.0
        )
        caption = (
            f"Distance from the pool (KS, 0 = the same distribution): {kept_distance:.4f} for the "
            f"kept rows, {random_distance:.4f} for this random sample."
        )
        svg = distribution(
            panel,
            shared,
            what.axis,
            f"{what.title}: distribution of pool, kept rows and a random sample.",
        )
        figures.append(Figure(what.title, svg, caption, (POOL, KEPT, RANDOM), quantiles(panel)))
    if shared is not None and panels:
        what, panel = meaning(names[-1], selection.settings), panels[-1]
        svg = chart.gaps(
            panel,
            shared,
            what.axis,
            f"{what.title}: how far kept rows and a random sample are from the pool.",
        )
        caption = (
            "Share of rows at or below a value minus the pool's. At zero, the subset is "
            "distributed like the pool."
        )
        figures.append(Figure("How far from the pool", svg, caption, (KEPT, RANDOM)))
    return figures


def _multiples(selection: LoadedSelection, drawing: Multiples) -> list[Figure]:
    """Small multiples on one scale, one for each subset that has rows."""
    values, subset, kept = (
        selection.reasons[drawing.column],
        selection.reasons[drawing.by],
        selection.kept,
    )
    words = drawing.labels
    words = {
        "P_d": "known, demonstrations",
        "P_q": "known, queries",
        "W_d": "not known, demonstrations",
        "W_q": "not known, queries",
    }
    panels = {}
    for name in words:
        mask = subset == name
        if mask.any():
            panels[name] = [
                Series("pool", "pool", values[mask]),
                Series("kept", "kept", values[mask & kept]),
            ]
    shared = chart.scale(list(panels.values()))
    what = meaning(drawing.column, selection.settings)
    out = []
    for name, panel in panels.items():
        if shared is None or not len(finite(panel[0].values)):
            continue
        n, k = len(panel[0].values), len(panel[1].values)
        svg = distribution(
            panel,
            shared,
            what.axis,
            f"{name}, {words[name]}: {what.title.lower()}, pool and kept rows.",
        )
        caption = f"{k:,} of {n:,} rows kept ({100 * k / n:.1f}%)."
        out.append(Figure(f"{name}: {words[name]}", svg, caption, (POOL, KEPT), quantiles(panel)))
    return out


def _group_shares(selection: LoadedSelection, drawing: GroupShares) -> list[Figure]:
    kept, group, values = (
        selection.kept,
        selection.reasons[drawing.group],
        selection.reasons[drawing.value],
    )
    numbers = np.unique(group[group >= 0])
    if not len(numbers):
        return []
    pool = [int((group == g).sum()) for g in numbers]
    taken = [int(((group == g) & kept).sum()) for g in numbers]
    labels = [str(int(g) + 1) for g in numbers]
    rows: list[tuple[str, ...]] = [("group", drawing.value_name, "pool", "kept", "kept of these")]
    for g, label, n, k in zip(numbers, labels, pool, taken, strict=True):
        inside = finite(values[group == g])
        span = f"{inside.min():.2f} to {inside.max():.2f}" if len(inside) else "none"
        rows.append((label, span, f"{n:,}", f"{k:,}", f"{100 * k / n:.1f}%"))
    share = [100 * k / n for k, n in zip(taken, pool, strict=True)]
    svg = chart.columns(
        labels, [("kept", share)], drawing.axis, "kept of the group, %", drawing.alt
    )
    return [Figure("Kept rows by group", svg, drawing.caption, (KEPT,), tuple(rows))]


def _mean_scores(selection: LoadedSelection, drawing: MeanScores) -> list[Figure]:
    """Radar of mean scores by capability, pool and kept rows; [] for fewer than three scores."""
    kept, r = selection.kept, selection.reasons
    names = [name for name in r if name.startswith(drawing.prefix) and len(finite(r[name]))]
    if len(names) < 3 or not kept.any():
        return []
    labels = [name.removeprefix(drawing.prefix).replace("_", " ") for name in names]
    pool = [float(finite(r[name]).mean()) for name in names]
    taken = [
        float(finite(r[name][kept]).mean()) if len(finite(r[name][kept])) else 0.0 for name in names
    ]
    svg = radar(labels, [("pool", pool), ("kept", taken)], "points", drawing.alt)
    what = drawing.taken_for
    share = [
        f"{int(((r[what] == name.removeprefix(drawing.prefix)) & kept).sum()):,}" for name in names
    ]
    rows: list[tuple[str, ...]] = [
        (what, "pool, mean score", "kept, mean score", "rows taken for it")
    ]
    rows += [
        (x, f"{a:.2f}", f"{b:.2f}", c)
        for x, a, b, c in zip(labels, pool, taken, share, strict=True)
    ]
    return [Figure("Capabilities", svg, drawing.caption, (POOL, KEPT), tuple(rows))]


def _counts(selection: LoadedSelection, drawing: Counts) -> list[Panel]:
    title = drawing.title or meaning(drawing.column, selection.settings).title
    if not drawing.kept_only:
        return [replace(column_breakdown(selection, drawing.column), title=title)]
    values = selection.reasons[drawing.column][selection.kept]
    if not len(values):
        return []
    counted = breakdown.by_text(title, values, np.ones(len(values), bool))
    parts = tuple(Part(p.label.replace("_", " "), 0, p.kept) for p in counted.parts)
    return [
        Panel(title, parts, 0, len(values), "Of the kept rows.", paired=False, heads=("", "Kept"))
    ]
