"""Why a row was kept or not, in words: the method's own where it explains itself, else from its
reasons alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from thresher.console.formatting import number_text
from thresher.errors import ConfigError
from thresher.methods import method_class
from thresher.methods.explanation import Evidence, Explanation, Why, percentile, standing
from thresher.report.columns import constant, is_number, meaning
from thresher.report.folder import LoadedSelection

Explain = Callable[[int], Why]  # of a position in `LoadedSelection.rows`


def explainer(made: LoadedSelection) -> Explain:
    """What says why a row was kept or not."""
    return explanation(made).why or by_reasons(made)


def explanation(made: LoadedSelection) -> Explanation:
    """What the method of this selection says; nothing where it does not explain itself, or is no
    longer installed."""
    try:
        cls = method_class(made.method)
    except ConfigError:
        return Explanation()
    if not hasattr(cls, "explain"):
        return Explanation()
    found: Explanation = cls.explain(
        Evidence(made.reasons, made.kept, made.settings, _findings(made))
    )
    return found


def _findings(made: LoadedSelection) -> dict[str, Any]:
    if "findings" in made.run:  # of a selection that was not written yet
        return dict(made.run["findings"])
    try:
        told = json.loads((made.folder / "errors.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def by_reasons(made: LoadedSelection) -> Explain:
    kept = made.kept
    numbers = {n: v for n, v in made.reasons.items() if is_number(v) and not constant(v)}
    above = {name: percentile(values) for name, values in numbers.items()}
    total = int(kept.sum())

    def why(i: int) -> Why:
        parts = []
        for name, values in numbers.items():
            what = meaning(name, made.settings)
            if not np.isnan(above[name][i]):
                number = number_text(values[i], what.unit)
                parts.append(f"{what.title.lower()} {number} ({standing(above[name][i])})")
        rank = f"rank {int(made.rank[i]) + 1:,} of {total:,}" if kept[i] else ""
        return Why(
            "kept" if kept[i] else "not kept",
            "; ".join([*([rank] if rank else []), *parts]) or "no score is known",
        )

    return why
