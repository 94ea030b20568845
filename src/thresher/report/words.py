"""Why a row was kept or not, in words. Reads the method's reasons; computes nothing that the method did not say.

One function a method; a method that is not known here gets its rank and where its numbers stand among all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thresher.console.words import counted
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


def standing(percent: float) -> str:
    """Where a value stands among all rows, from the percent of rows with a smaller one.

    Rounded down: no row is above all rows. "" where the value is not known.

    >>> [standing(p) for p in (0.0, 0.4, 37.9)]
    ['no row is lower', 'above less than 1% of the rows', 'above 37% of the rows']
    """
    if np.isnan(percent):
        return ""
    if percent <= 0:
        return "no row is lower"
    return f"above {int(percent)}% of the rows" if percent >= 1 else "above less than 1% of the rows"


def change_of_loss(effect: float) -> str:
    """What a demonstration does to a row's loss. `effect`: nats per token, > 0 = the loss falls.

    >>> [change_of_loss(x) for x in (0.25, -0.25, 0.001, float("nan"))]  # doctest: +NORMALIZE_WHITESPACE
    ['a demonstration lowers its loss by 0.25 nats per token',
     'a demonstration raises its loss by 0.25 nats per token',
     'a demonstration leaves its loss as it is',
     'no demonstration was available or fitted']
    """
    if not np.isfinite(effect):
        return "no demonstration was available or fitted"
    text = f"{abs(effect):.2f}"
    if float(text) == 0:
        return "a demonstration leaves its loss as it is"
    return f"a demonstration {'lowers' if effect > 0 else 'raises'} its loss by {text} nats per token"


def preference(effect: float, least: bool) -> str:
    """How a row that was preferred compares with its bin. `least`: rows helped least are preferred.

    >>> preference(0.25, False), preference(-0.25, False)
    ('among the most helped of its bin', 'among the least harmed of its bin')
    >>> preference(0.25, True), preference(-0.25, True), preference(0.0, False)
    ('among the least helped of its bin', 'among the most harmed of its bin', 'few rows of its bin are helped more')
    """
    if not np.isfinite(effect) or float(f"{effect:.2f}") == 0:
        return f"few rows of its bin are helped {'less' if least else 'more'}"
    if effect > 0:
        return f"among the {'least' if least else 'most'} helped of its bin"
    return f"among the {'most' if least else 'least'} harmed of its bin"


def _with(value: str, standing: str) -> str:
    return f"{value}, {standing}" if standing else value


# ---------------------------------------------------------------------------------------------- one a method


def _clipper(made: Made) -> Explain:
    r, kept = made.reasons, made.kept
    least = made.settings.get("prefer") == "least_helped"
    group = {"P": "answers that the model knows (P)", "W": "answers that the model does not know (W)"}

    def why(i: int) -> Why:
        knowledge = str(r["knowledge"][i])
        where = f"bin {int(r['bin'][i])} of the {group.get(knowledge, knowledge)}"
        effect = float(r["effect"][i])
        helps = change_of_loss(effect)
        if kept[i] and r["critical"][i]:
            return Why("preferred in its bin", f"{where}; {helps}: {preference(effect, least)}")
        if kept[i]:
            return Why(
                "random sample of its bin", f"random sample of {where}, to match the pool's distribution; {helps}"
            )
        return Why("enough similar rows kept", f"enough similar rows were already kept ({where}; {helps})")

    return why


def _mllm_selector(made: Made) -> Explain:
    r, kept = made.reasons, made.kept
    groups = int(r["group"].max(initial=0)) + 1
    above = percentile(r["necessity"])

    def why(i: int) -> Why:
        value = float(r["necessity"][i])
        loss = "loss under the seed model not known"
        if np.isfinite(value):
            loss = f"loss {value:.2f} nats per token under the seed model"
        group = int(r["group"][i])
        place = f"group {group + 1} of {groups} by necessity" if group >= 0 else "in no group of necessity"
        if r["seed_row"][i]:
            return Why("seed row", f"a seed row, chosen at random: the seed model was trained on it ({loss})")
        if r["held"][i]:
            text = f"suspected noise: {_with(loss, standing(above[i]))}"
            return Why("kept despite suspected noise" if kept[i] else "held back as noise", text)
        text = f"{place}; {_with(loss, standing(above[i]))}"
        return Why("random sample of its group" if kept[i] else "enough rows of its group kept", text)

    return why


def _perplexity(made: Made) -> Explain:
    where = str(made.settings.get("where", "middle"))
    goal = {"top": "the most surprising", "bottom": "the least surprising"}.get(
        where, "the answers nearest to the median"
    )
    return _cut(made, "nll", f"{goal}{'' if goal.startswith('the answers') else ' answers'} are kept")


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
        if np.isnan(float(values[i])):
            return Why("no score", f"{what.title.lower()} is not known")
        value = f"{what.title.lower()} {shown(values[i], what.unit)}"
        if tied[i]:
            return Why("tied at the cut", f"{value}; kept and other rows have this value: chosen at random by the seed")
        return Why("inside the cut" if kept[i] else "outside the cut", f"{_with(value, standing(above[i]))}; {rule}")

    return why


def _stratified(made: Made) -> Explain:
    kept = made.kept
    equal = made.settings.get("by") == "equal"
    part = "which gives as many rows as every other source" if equal else "which gives its share of the pool"

    def why(i: int) -> Why:
        name = f"source {made.reasons['source'][i]}" if made.reasons["source"][i] else "the rows without a source"
        if kept[i]:
            return Why("random sample of its source", f"random sample of {name}, {part}")
        return Why("not drawn", f"not drawn from {name}, {part}")

    return why


def _random(made: Made) -> Explain:
    kept, n = int(made.kept.sum()), len(made.kept)
    drawn = Why("random sample", f"random sample: {kept:,} of {counted(n)} {'was' if kept == 1 else 'were'} drawn")
    return lambda i: drawn if made.kept[i] else Why("not drawn", "not drawn; every row had the same chance")


def _mmssr(made: Made) -> Explain:
    r, kept = made.reasons, made.kept
    above = percentile(np.asarray(r["score"], np.float64))

    def why(i: int) -> Why:
        score = float(r["score"][i])
        said = "no score above the threshold"
        if not np.isnan(score):
            said = _with(f"score {shown(score)} of 5", standing(above[i]))
        style = f"; style: {r['style'][i]}" if "style" in r and r["style"][i] else ""
        if kept[i]:
            skill = str(r["capability"][i]).replace("_", " ") or "no capability"
            turn = f" in turn {int(r['round'][i]) + 1}" if "round" in r and r["round"][i] >= 0 else ""
            return Why(f"for {skill}", f"taken for {skill}{turn}: {said}{style}")
        best = said if np.isnan(score) else f"best {said}"
        return Why("enough similar rows kept", f"enough rows of its groups were kept; {best}{style}")

    return why


def _error_driven(made: Made) -> Explain:
    r, kept = made.reasons, made.kept

    def why(i: int) -> Why:
        by, rank, skill = int(r["validation_row"][i]), int(r["search_rank"][i]), str(r["missing_skill"][i])
        if kept[i] and by >= 0:
            search = f"the search for “{skill}”" if skill else "its search"
            found = f"result {rank + 1:,} of {search}" if rank >= 0 else f"found by {search}"
            return Why(
                "retrieved for an error",
                f"retrieved for validation row {by:,}: {found}, score {shown(r['search_score'][i])}",
            )
        if kept[i]:
            return Why("random fill", "random sample that fills the budget: no search asked for more rows")
        return Why("not retrieved", "no search returned it")

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
                parts.append(f"{what.title.lower()} {number} ({standing(above[name][i])})")
        rank = f"rank {int(made.rank[i]) + 1:,} of {total:,}" if kept[i] else ""
        return Why(
            "kept" if kept[i] else "not kept", "; ".join([*([rank] if rank else []), *parts]) or "no score is known"
        )

    return why
