"""Why a row was kept or not, in words. Reads the method's reasons; computes nothing that the method did not say.

One function a method; a method that is not known here gets its rank and where its numbers stand among all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thresher.report.chart import tick_text
from thresher.report.columns import constant, is_number, meaning, shown
from thresher.report.folder import Made


@dataclass(frozen=True)
class Why:
    """`kind`: a few words that many rows share, to filter by. `text`: a sentence about this row."""

    kind: str
    text: str


Explain = Callable[[int], Why]  # of a position in `Made.rows`


def explainer(made: Made) -> Explain:
    """What says why, for the method of this selection."""
    makers: dict[str, tuple[Callable[[Made], Explain], tuple[str, ...]]] = {
        "clipper": (_clipper, ("knowledge", "bin", "effect", "critical")),
        "mllm_selector": (_mllm_selector, ("necessity", "group", "seed_row", "held")),
        "perplexity": (_perplexity, ("nll",)),
        "length": (_length, ("length",)),
        "stratified": (_stratified, ("source",)),
        "random": (_random, ()),
        "mmssr": (_mmssr, ("capability", "score")),
        "error_driven": (_error_driven, ("validation_row", "search_rank", "search_score", "missing_skill")),
    }
    make, needed = makers.get(made.method, (_any, ()))
    # a plug-in may take a known name, and a later version may give other columns
    return make(made) if all(name in made.reasons for name in needed) else _any(made)


def percentile(values: np.ndarray) -> np.ndarray:
    """Percent of the rows with a smaller value, float64 [n]; NaN where the value is."""
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values.astype(np.float64)))
    ordered = np.sort(values[known])
    out[known] = 100 * np.searchsorted(ordered, values[known], side="left") / max(len(known), 1)
    return out


def _share(percent: float) -> str:
    """Whole percents, rounded down: no row is above all rows."""
    return "an unknown part" if np.isnan(percent) else f"{int(percent)}%"


# ---------------------------------------------------------------------------------------------- one a method


def _clipper(made: Made) -> Explain:
    r, kept = made.reasons, made.kept
    least = made.settings.get("prefer") == "least_helped"

    def why(i: int) -> Why:
        where = f"bin {int(r['bin'][i])} of {r['knowledge'][i]}"
        effect = float(r["effect"][i])
        helps = "no demonstration is there, or fits"
        if np.isfinite(effect):
            helps = (
                f"a demonstration {'lowers' if effect > 0 else 'raises'} its loss by {abs(effect):.2f} nats per token"
            )
        if kept[i] and r["critical"][i]:
            rank = "among the least helped of its bin" if least else "among the most helped of its bin"
            return Why("taken by preference", f"{where}; {helps}: {rank}")
        if kept[i]:
            return Why("drawn in its bin", f"drawn in {where}, so that the kept rows mirror the pool ({helps})")
        return Why("its bin had its share", f"{where} had its share without it ({helps})")

    return why


def _mllm_selector(made: Made) -> Explain:
    r, kept = made.reasons, made.kept
    groups = int(r["group"].max(initial=0)) + 1
    above = percentile(r["necessity"])

    def why(i: int) -> Why:
        loss = f"loss {float(r['necessity'][i]):.2f} nats per token under the seed model"
        place = f"group {int(r['group'][i]) + 1} of {groups} by necessity; {loss}, above {_share(above[i])} of the rows"
        if r["seed_row"][i]:
            return Why("seed row", f"a seed row, drawn at random: the seed model was trained on it ({loss})")
        if r["held"][i]:
            text = f"suspected noise: {loss}, above {above[i]:.1f}% of the rows"
            return Why("taken all the same" if kept[i] else "held back as noise", text)
        return Why("drawn in its group" if kept[i] else "its group had its share", place)

    return why


def _perplexity(made: Made) -> Explain:
    where = str(made.settings.get("where", "middle"))
    goal = {"top": "most surprising", "bottom": "least surprising"}.get(where, "nearest to the median")
    return _cut(made, "nll", f"the {goal} answers are kept")


def _length(made: Made) -> Explain:
    return _cut(made, "length", "the longest answers are kept")


def _cut(made: Made, name: str, rule: str) -> Explain:
    """For methods that keep one end, or the middle, of a single number."""
    values, kept = made.reasons[name], made.kept
    what = meaning(name, made.settings)
    above = percentile(values)
    # values that rows on both sides of the cut have: there the seeded hash decided
    tied = np.isin(values, np.intersect1d(values[kept], values[~kept]))

    def why(i: int) -> Why:
        value = f"{what.title.lower()} {shown(values[i], what.unit)}"
        if tied[i]:
            return Why(
                "at the cut, by lot", f"{value}; rows on both sides of the cut have this value: the seed decided"
            )
        value += f", above {_share(above[i])} of the rows"
        return Why("inside the cut" if kept[i] else "outside the cut", f"{value}; {rule}")

    return why


def _stratified(made: Made) -> Explain:
    kept = made.kept
    equal = made.settings.get("by") == "equal"
    part = "as many rows as every other source" if equal else "its share of the pool"

    def why(i: int) -> Why:
        name = made.reasons["source"][i] or "without a source"
        lot = "drawn by lot" if kept[i] else "not drawn"
        return Why(lot, f"{lot} in {name}, which gives {part}")

    return why


def _random(made: Made) -> Explain:
    share = f"{100 * made.kept.mean():.3g}%" if len(made.kept) else "0%"
    drawn = Why("drawn by lot", f"drawn by lot, as {share} of all rows were")
    return lambda i: drawn if made.kept[i] else Why("not drawn", "not drawn; every row had the same chance")


def _mmssr(made: Made) -> Explain:
    r, kept = made.reasons, made.kept
    above = percentile(np.asarray(r["score"], np.float64))

    def why(i: int) -> Why:
        score = float(r["score"][i])
        said = (
            "no score above the threshold"
            if np.isnan(score)
            else f"{shown(score)} of 5, above {_share(above[i])} of the rows"
        )
        style = f"; style: {r['style'][i]}" if "style" in r else ""
        if kept[i]:
            skill = str(r["capability"][i]).replace("_", " ") or "no capability"
            turn = f" in turn {int(r['round'][i]) + 1}" if "round" in r and r["round"][i] >= 0 else ""
            return Why(f"for {skill}", f"taken for {skill}{turn}: {said}{style}")
        return Why("its groups had their share", f"its best score: {said}{style}")

    return why


def _error_driven(made: Made) -> Explain:
    r, kept = made.reasons, made.kept

    def why(i: int) -> Why:
        by, rank, skill = int(r["validation_row"][i]), int(r["search_rank"][i]), str(r["missing_skill"][i])
        if kept[i] and by >= 0:
            found = f"number {rank + 1} of the search for “{skill}”" if skill else f"number {rank + 1} of its search"
            return Why(
                "fetched for an error", f"fetched for validation row {by:,}: {found}, fit {shown(r['search_score'][i])}"
            )
        if kept[i]:
            return Why("fill, by lot", "drawn to fill the budget: no search asked for more rows")
        return Why("not fetched", "no search reached it")

    return why


def _any(made: Made) -> Explain:
    kept = made.kept
    numbers = {n: v for n, v in made.reasons.items() if is_number(v) and not constant(v)}
    above = {name: percentile(values) for name, values in numbers.items()}
    total = int(kept.sum())

    def why(i: int) -> Why:
        parts = []
        for name, values in numbers.items():
            what = meaning(name, made.settings)
            if not np.isnan(above[name][i]):
                number = shown(values[i], what.unit)
                parts.append(f"{what.title.lower()} {number} (above {_share(above[name][i])} of the rows)")
        rank = f"rank {tick_text(float(made.rank[i]) + 1)} of {total:,}" if kept[i] else ""
        return Why(
            "kept" if kept[i] else "not kept", "; ".join([*([rank] if rank else []), *parts]) or "no score is known"
        )

    return why
