"""The pictures that belong to one method: CLIPPER, MLLM-Selector, mmSSR, error-driven tuning.

Each gives a sentence or two, figures and panels, from the reasons of its method; error-driven also reads errors.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thresher.report import chart, tally
from thresher.report.chart import Figure, Series, distribution, finite
from thresher.report.columns import meaning
from thresher.report.figures import KEPT, POOL, RANDOM, one, quantiles, random_draw, tally_of
from thresher.report.folder import Made
from thresher.report.radar import radar
from thresher.report.tally import Panel, Part
from thresher.samplers import ks_distance
from thresher.text import parse_json

Parts = tuple[str, list[Figure], list[Panel]]


def clipper(made: Made) -> Parts:
    kept, draw = made.kept, random_draw(made)
    names = ["nll", "nll_one_shot"]
    panels = []
    for name in names:
        v = made.reasons[name]
        panels.append([Series("pool", "pool", v), Series("kept", "kept", v[kept]), Series("random", "random", v[draw])])
    shared = chart.scale(panels)
    figures = []
    for name, panel in zip(names, panels, strict=True):
        if shared is None:
            continue
        what = meaning(name, made.settings)
        near = ks_distance(finite(panel[0].values), finite(panel[1].values)) if len(finite(panel[1].values)) else 1.0
        lot = ks_distance(finite(panel[0].values), finite(panel[2].values)) if len(finite(panel[2].values)) else 1.0
        caption = (
            f"Distance from the pool (KS, 0 = the same distribution): {near:.4f} for the kept rows, {lot:.4f} for this "
            "random sample."
        )
        svg = distribution(
            panel, shared, what.axis, f"{what.title}: distribution of pool, kept rows and a random sample."
        )
        figures.append(Figure(what.title, svg, caption, (POOL, KEPT, RANDOM), quantiles(panel)))
    if shared is not None and len(panels) == 2:
        what, panel = meaning("nll_one_shot", made.settings), panels[1]
        svg = chart.gaps(
            panel, shared, what.axis, f"{what.title}: how far kept rows and a random sample are from the pool."
        )
        caption = (
            "Share of rows at or below a value minus the pool's. At zero, the subset is distributed like the pool."
        )
        figures.append(Figure("How far from the pool", svg, caption, (KEPT, RANDOM)))
    figures += _subsets(made)
    figures += one(made, "effect")
    lead = (
        "CLIPPER keeps rows so that their perplexities are distributed as in the pool; among similar rows it prefers those "
        "that a demonstration helps most (or least: setting `prefer`). P: answers that the model knows; W: answers that the "
        "data must teach it."
    )
    return lead, figures, []


def _subsets(made: Made) -> list[Figure]:
    """Small multiples on one scale: P_d, P_q, W_d, W_q, those that have rows."""
    values, subset, kept = made.reasons["nll_one_shot"], made.reasons["subset"], made.kept
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
            panels[name] = [Series("pool", "pool", values[mask]), Series("kept", "kept", values[mask & kept])]
    shared = chart.scale(list(panels.values()))
    what = meaning("nll_one_shot", made.settings)
    out = []
    for name, panel in panels.items():
        if shared is None or not len(finite(panel[0].values)):
            continue
        n, k = len(panel[0].values), len(panel[1].values)
        svg = distribution(
            panel, shared, what.axis, f"{name}, {words[name]}: {what.title.lower()}, pool and kept rows."
        )
        caption = f"{k:,} of {n:,} rows kept ({100 * k / n:.1f}%)."
        out.append(Figure(f"{name}: {words[name]}", svg, caption, (POOL, KEPT), quantiles(panel)))
    return out


def mllm_selector(made: Made) -> Parts:
    r, kept = made.reasons, made.kept
    group, necessity = r["group"], r["necessity"]
    numbers = np.unique(group[group >= 0])
    figures = one(made, "necessity")
    if len(numbers):
        pool = [int((group == g).sum()) for g in numbers]
        taken = [int(((group == g) & kept).sum()) for g in numbers]
        labels = [str(int(g) + 1) for g in numbers]
        rows: list[tuple[str, ...]] = [("group", "loss, nats per token", "pool", "kept", "kept of these")]
        for g, label, n, k in zip(numbers, labels, pool, taken, strict=True):
            inside = finite(necessity[group == g])
            span = f"{inside.min():.2f} to {inside.max():.2f}" if len(inside) else "none"
            rows.append((label, span, f"{n:,}", f"{k:,}", f"{100 * k / n:.1f}%"))
        share = [100 * k / n for k, n in zip(taken, pool, strict=True)]
        svg = chart.columns(
            labels, [("kept", share)], "group by necessity, 1 = least", "kept of the group, %",
            "Share of each group of necessity that was kept.",
        )  # fmt: skip
        caption = "Groups are of equal size; harder ones contribute more. Seed rows and held-back rows are in no group."
        figures.append(Figure("Kept rows by group", svg, caption, (KEPT,), tuple(rows)))
    seeds, held = int(r["seed_row"].sum()), int(r["held"].sum())
    lead = (
        f"A seed model was trained on {seeds:,} random rows. Necessity is its loss on every row: what it still "
        f"finds hard. {held:,} rows of the highest necessity are suspected to be noise."
    )
    return lead, figures, []


def mmssr(made: Made) -> Parts:
    """The radar is of mean scores: which capabilities the kept rows are worth more for than the pool is."""
    kept, r = made.kept, made.reasons
    names = [name for name in r if name.startswith("score_") and len(finite(r[name]))]
    figures = []
    if len(names) >= 3 and kept.any():
        labels = [name.removeprefix("score_").replace("_", " ") for name in names]
        pool = [float(finite(r[name]).mean()) for name in names]
        taken = [float(finite(r[name][kept]).mean()) if len(finite(r[name][kept])) else 0.0 for name in names]
        groups = [("pool", pool), ("kept", taken)]
        svg = radar(labels, groups, "points", "Mean score by capability, pool and kept rows.")
        share = [f"{int(((r['capability'] == name.removeprefix('score_')) & kept).sum()):,}" for name in names]
        rows: list[tuple[str, ...]] = [("capability", "pool, mean score", "kept, mean score", "rows taken for it")]
        rows += [(x, f"{a:.2f}", f"{b:.2f}", c) for x, a, b, c in zip(labels, pool, taken, share, strict=True)]
        caption = "Mean score, 0 to 5: the value of the rows for each capability, according to the judge or scorer."
        figures.append(Figure("Capabilities", svg, caption, (POOL, KEPT), tuple(rows)))
    lead = (
        "Every row is scored for each capability and has a style of interaction. The capabilities take turns; in a turn "
        "the groups of style and source give their best rows."
    )
    panels = [tally_of(made, "style")]
    taken_for = np.where(kept, r["capability"], "")[kept]
    if len(taken_for):
        counted = tally.by_text("Taken for", taken_for, np.ones(len(taken_for), bool))
        parts = tuple(Part(p.label.replace("_", " "), 0, p.kept) for p in counted.parts)
        panels.append(
            Panel("Taken for", parts, 0, len(taken_for), "Of the kept rows.", paired=False, heads=("", "Kept"))
        )
    return lead, figures, panels


def error_driven(made: Made) -> Parts:
    """Skills that the model lacks on the validation set, and the rows that were fetched for them."""
    told = _errors(made)
    skills = [s for s in told.get("skills", []) if s["errors"] or s["rows"]]
    parts = [Part(str(s["skill"]), int(s["errors"]), int(s["rows"])) for s in skills[: tally.MOST_TEXTS]]
    panels = []
    if parts:
        errors, rows = sum(int(s["errors"]) for s in skills), sum(int(s["rows"]) for s in skills)
        note = f"{len(skills):,} skills in all; errors.json has them, errors.jsonl every wrong answer."
        panels.append(Panel("Missing skills", tuple(parts), errors, rows, note, paired=False, heads=("Errors", "Rows")))
    tasks = [Part(str(t["task"]) or "(none)", int(t["rows"]), int(t["wrong"])) for t in told.get("tasks", [])]
    if tasks:
        every, wrong = sum(t.pool for t in tasks), sum(t.kept for t in tasks)
        panels.append(
            Panel(
                "Validation set by task",
                tuple(tasks),
                every,
                wrong,
                heads=("Rows", "Wrong"),
                rate_head="Wrong of these",
            )
        )
    lead = "Rows that need the skills that the model lacked on a validation set, retrieved error by error."
    if told:
        lead += f" It got {told.get('wrong', 0):,} of {told.get('rows', 0):,} validation rows wrong."
    return lead, one(made, "search_score"), panels


def _errors(made: Made) -> dict[str, Any]:
    if "findings" in made.run:  # of a selection that was not written yet
        return dict(made.run["findings"])
    try:
        told = parse_json((made.folder / "errors.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
