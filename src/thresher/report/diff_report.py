"""The page of `thresher diff A B --out FILE.html`: overlap, sources, scores and example rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from thresher.console.formatting import tick_text
from thresher.html import Card
from thresher.report import chart, page
from thresher.report.breakdown import sample_rows
from thresher.report.chart import Figure, Series, distribution
from thresher.report.columns import meaning
from thresher.report.diff import Counts, Difference, label, numbers, values_of
from thresher.report.folder import LoadedSelection
from thresher.report.gallery import make_cards
from thresher.report.words import explainer

ROWS = 36  # examples of each part
MOST_SOURCES = 20


def write(difference: Difference, path: Path) -> Path:
    """Write the page; returns its path. Raises StoreError, PoolError.

    Arguments:
        difference: what the page shows.
        path: of the HTML file, whose folder exists.
    """
    return page.write_page(path, build(difference))


def build(d: Difference, rows: int = ROWS) -> str:
    """Render the page. Raises PoolError.

    Arguments:
        d: what the page shows.
        rows: maximum number of examples of each part: the best by rank, then a random sample.
    """
    a, b = label(d.a, d.b), label(d.b, d.a)
    n = len(d.only_a) + len(d.both) + len(d.only_b)
    groups = [
        ("a", f"Only A: {a}", d.a, d.only_a, d.b),
        ("b", f"Only B: {b}", d.b, d.only_b, d.a),
        ("both", "In both", d.a, d.both, d.b),
    ]
    cards = [
        (id_, title, len(kept), _cards(d, selection, kept, other, rows))
        for id_, title, selection, kept, other in groups
    ]
    all_cards = [c for _, _, _, some in cards for c in some]
    sources = list(d.sources)[:MOST_SOURCES]
    if len(d.sources) > MOST_SOURCES:
        rest = d.sources[MOST_SOURCES:]
        sums = (sum(c.only_a for c in rest), sum(c.both for c in rest), sum(c.only_b for c in rest))
        sources.append(Counts(f"{len(rest)} smaller sources", *sums))
    total = Counts("all", len(d.only_a), len(d.both), len(d.only_b))
    return page.render(
        "diff.html.jinja",
        {
            "title": (
                f"{len(d.both):,} {'row is' if len(d.both) == 1 else 'rows are'} in both selections"
            ),
            "d": d,
            "a": a,
            "b": b,
            "counts": total,
            "n": max(n, 1),
            "sources": sources,
            "top": max(
                (100 * max(c.a / max(total.a, 1), c.b / max(total.b, 1)) for c in sources),
                default=100.0,
            )
            or 100.0,
            "figures": _figures(d, a, b),
            "groups": cards,
            "filter_sources": sorted({c.source for c in all_cards}),
            "filter_kinds": sorted({c.kind for c in all_cards}),
        },
    )


def _figures(d: Difference, a: str, b: str) -> list[Figure]:
    """A histogram per numeric reason: the rows of A and those of B; [] for two different pools.

    Arguments:
        d: what the histograms show.
        a, b: labels of its selections.
    """
    out = []
    rows_a, rows_b = np.r_[d.only_a, d.both], np.r_[d.only_b, d.both]
    if not d.same_pool:
        return []
    known = [(s.of, s.name) for s in d.scores]
    for of, selection in (("A", d.a), ("B", d.b)):
        drawn = (n for n in numbers(selection) if meaning(n, selection.settings).drawn)
        for name in drawn:
            if (of, name) not in known:
                continue
            what = meaning(name, selection.settings)
            panel = [
                Series("pool", "pool", np.asarray(selection.reasons[name], np.float64)),
                Series("A", "kept", values_of(selection, name, rows_a)),
                Series("B", "random", values_of(selection, name, rows_b)),
            ]
            shared = chart.scale([panel])
            if shared is None:
                continue
            score = next(s for s in d.scores if (s.of, s.name) == (of, name))
            table = (
                ("median", "only A", "both", "only B"),
                (
                    what.brief,
                    *(
                        "none" if v is None else tick_text(v)
                        for v in (score.only_a, score.both, score.only_b)
                    ),
                ),
            )
            svg = distribution(
                panel,
                shared,
                what.axis,
                f"{what.title}: distribution in the pool, in A and in B.",
            )
            legend = (("pool", "pool"), ("kept", f"A: {a}"), ("random", f"B: {b}"))
            out.append(
                Figure(
                    f"{what.title} (known to {of})", svg, what.direction.capitalize(), legend, table
                )
            )
    return out


def _cards(
    d: Difference, selection: LoadedSelection, rows: np.ndarray, other: LoadedSelection, most: int
) -> list[Card]:
    best = rows[: most // 2]
    some = np.r_[best, sample_rows(selection, np.setdiff1d(rows, best), most - len(best))].astype(
        np.int64
    )
    cards = make_cards(selection, some)
    if not d.same_pool:
        return cards
    why, place = (
        explainer(other),
        dict(zip(other.rows.tolist(), range(len(other.rows)), strict=True)),
    )
    name = "B" if other is d.b else "A"
    out = []
    for card in cards:
        at = place.get(card.row)
        if at is None:
            outcome = f"{name}: could not be used"
        else:
            outcome = f"{name}, {'kept' if other.rank[at] >= 0 else 'not kept'}: {why(at).text}"
        out.append(replace(card, other=outcome))
    return out
