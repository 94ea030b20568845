"""Why a row was kept or not, as text: from the method's `explain`, else from its reasons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thresher.console.formatting import number_text
from thresher.methods.explanation import Why, percentile, standing
from thresher.report.columns import constant, is_number, meaning
from thresher.report.folder import LoadedSelection

Explain = Callable[[int], Why]  # of a position in `LoadedSelection.rows`


def explainer(selection: LoadedSelection) -> Explain:
    """A function from a row's position in `selection.rows` to the reason as text."""
    return selection.explanation.why or explain_by_reasons(selection)


def explain_by_reasons(selection: LoadedSelection) -> Explain:
    """Explain each row by its rank and the percentiles of its numeric reasons."""
    kept = selection.kept
    numbers = {n: v for n, v in selection.reasons.items() if is_number(v) and not constant(v)}
    above = {name: percentile(values) for name, values in numbers.items()}
    total = int(kept.sum())

    def why(i: int) -> Why:
        parts = []
        for name, values in numbers.items():
            what = meaning(name, selection.settings)
            if not np.isnan(above[name][i]):
                number = number_text(values[i], what.unit)
                parts.append(f"{what.title.lower()} {number} ({standing(above[name][i])})")
        rank = f"rank {int(selection.rank[i]) + 1:,} of {total:,}" if kept[i] else ""
        return Why(
            "kept" if kept[i] else "not kept",
            "; ".join([*([rank] if rank else []), *parts]) or "no score is known",
        )

    return why
