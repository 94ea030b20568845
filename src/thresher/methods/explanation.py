"""How a method explains a selection: a row's reasons as text, and which charts the report shows.
Plain values; this module draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thresher.console.formatting import number_text


@dataclass(frozen=True)
class Why:
    """Why one row was kept or not.

    kind: a few words that many rows share, to filter by.
    text: a sentence about this row.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """The argument of `explain`: a selection, perhaps made by an older version with other reasons
    or settings.

    reasons: name -> array [n] over the rows that the method saw.
    kept: bool [n].
    settings: of the method, as in run.yaml.
    findings: summary of a target set's findings; empty without one.
    """

    reasons: Mapping[str, np.ndarray]
    kept: np.ndarray
    settings: Mapping[str, Any] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)
    _cache: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def has(self, *names: str) -> bool:
        """Whether all these reasons exist."""
        return all(name in self.reasons for name in names)

    def standing(self, name: str, i: int) -> str:
        """The rank of row `i` by the reason `name`, such as "above 37% of the rows"; "" if the
        value is unknown.

        Arguments:
            name: of a numeric reason.
            i: index of a row.
        """
        return standing(
            float(self._cached(f"percentile {name}", lambda: percentile(self.reasons[name]))[i])
        )

    def tied(self, name: str, i: int) -> bool:
        """Whether both kept and other rows have the value of row `i`, so that the seed decided.

        Arguments:
            name: of a reason.
            i: index of a row.
        """
        values = self.reasons[name]
        both = self._cached(
            f"tied {name}",
            lambda: np.isin(values, np.intersect1d(values[self.kept], values[~self.kept])),
        )
        return bool(both[i])

    def _cached(self, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]


# ------------------------------------------------------------------------------------------- charts


@dataclass(frozen=True)
class Histogram:
    """The distribution of one number in the pool and among the kept rows, with the threshold if
    there is one."""

    column: str


@dataclass(frozen=True)
class Distributions:
    """Several numbers of the same unit on one scale: pool, kept rows and a random sample, with
    their distances from the pool."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Multiples:
    """A number in the pool and among the kept rows, with one chart for each value of `by`, on one
    scale. labels: value -> title."""

    column: str
    by: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class GroupShares:
    """The share of each group of rows that was kept.

    group: reason with the group's index; negative: no group.
    value: reason with the number that defines the groups.
    value_name: its name, with the unit.
    axis: title of the groups' axis.
    alt: the chart in a sentence.
    caption: text below the chart.
    """

    group: str
    value: str
    value_name: str
    axis: str
    alt: str
    caption: str


@dataclass(frozen=True)
class MeanScores:
    """A radar chart of mean scores, pool and kept rows.

    prefix: of the names of the reasons with scores.
    taken_for: reason with the name, without prefix, of the score that a row was kept for.
    alt: the chart in a sentence.
    caption: text below the chart.
    """

    prefix: str
    taken_for: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Counts:
    """Counts of the rows by a text or boolean.

    title: "": that of the column.
    kept_only: without the pool.
    """

    column: str
    title: str = ""
    kept_only: bool = False


@dataclass(frozen=True)
class Bars:
    """A table with two counts per label.

    parts: (label, first count, second count).
    totals: of the counts.
    heads: titles of the counts.
    note: text below the table.
    paired: whether the second count is a part of the first.
    rate: title of that share.
    """

    title: str
    parts: tuple[tuple[str, int, int], ...]
    totals: tuple[int, int]
    heads: tuple[str, str]
    note: str = ""
    paired: bool = True
    rate: str = "Kept of these"


Drawing = Histogram | Distributions | Multiples | GroupShares | MeanScores | Counts | Bars


@dataclass(frozen=True)
class Explanation:
    """The result of `explain`. What is left out falls back to the names and values of the reasons.

    why: index of a row in the evidence -> why it was kept or not.
    lead: a sentence or two above the charts.
    drawings: the charts, in order.
    drawn: reasons that these charts show, so that they get no separate chart.
    hidden: reasons that never get a chart.
    """

    why: Callable[[int], Why] | None = None
    lead: str = ""
    drawings: tuple[Drawing, ...] = ()
    drawn: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()


# -------------------------------------------------------------------------------------------- words


def percentile(values: np.ndarray) -> np.ndarray:
    """Percentage of the rows with a smaller value, float64 [n]; NaN where the value is NaN."""
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values.astype(np.float64)))
    ordered = np.sort(values[known])
    out[known] = 100 * np.searchsorted(ordered, values[known], side="left") / max(len(known), 1)
    return out


def standing(percent: float) -> str:
    """The rank of a value among all rows, as text.

    Arguments:
        percent: of the rows with a smaller value; rounded down, so that no row is above all rows.

    "" if `percent` is NaN.

    >>> [standing(p) for p in (0.0, 0.4, 37.9)]
    ['no row is lower', 'above less than 1% of the rows', 'above 37% of the rows']
    """
    if np.isnan(percent):
        return ""
    if percent <= 0:
        return "no row is lower"
    return (
        f"above {int(percent)}% of the rows" if percent >= 1 else ("above less than 1% of the rows")
    )


def joined(*parts: str) -> str:
    """The non-empty parts, separated by commas."""
    return ", ".join(part for part in parts if part)


def by_one_number(
    evidence: Evidence, name: str, what: str, unit: str, rule: str
) -> Callable[[int], Why] | None:
    """`Explanation.why` for methods that keep one end, or the middle, of a single number.

    Arguments:
        evidence: the selection.
        name: the reason with the number.
        what: its name in the report.
        unit: "" for none.
        rule: what is kept, such as "the longest answers are kept".

    None if the reason does not exist.
    """
    if not evidence.has(name):
        return None
    values, kept = evidence.reasons[name], evidence.kept

    def why(i: int) -> Why:
        if np.isnan(float(values[i])):
            return Why("no score", f"{what} is unknown")
        value = f"{what} {number_text(values[i], unit)}"
        if evidence.tied(name, i):
            return Why(
                "tied at the cut",
                f"{value}; kept and other rows have this value: chosen at random by the seed",
            )
        return Why(
            "inside the cut" if kept[i] else "outside the cut",
            f"{joined(value, evidence.standing(name, i))}; {rule}",
        )

    return why
