"""Quotas: the group of each row, and how many rows each group must and may give.

Groups must not overlap: it would be unclear which quota a row of two groups counts for. Rows of no
group form the rest, without bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import ConfigError, did_you_mean, opt
from thresher.mixture.columns import SOURCE, as_text
from thresher.mixture.spec import Bound, Quota
from thresher.samplers import largest_remainder
from thresher.signals.named import named_field

if TYPE_CHECKING:
    from thresher.mixture.signal_scores import NamedColumns
    from thresher.pools import Pool

TEXT_ONLY = "text_only"
REST = "all other rows"


@dataclass(frozen=True)
class Groups:
    """`label`: int32 [n], pool order, the index of each row's quota; len(quotas) = the rest."""

    quotas: tuple[Quota, ...]
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.quotas) + 1

    @property
    def names(self) -> list[str]:
        return [q.group for q in self.quotas] + [REST]


@dataclass(frozen=True)
class Bounds:
    """Bounds on the rows of each group, int64 [g].

    `low`, `high`: minimum and maximum. `given`: forced rows. `available`: available rows. low <=
    high <= available, and given <= high.
    """

    low: np.ndarray
    high: np.ndarray
    given: np.ndarray
    available: np.ndarray


def column_of(quota: Quota, pool: Pool) -> str | None:
    """The column whose value defines the quota's group; None for a source or text_only.

    Arguments:
        quota: the quota.
        pool: whose sources are compared with the quota's group.
    """
    column, colon, _ = quota.group.partition(":")
    if quota.group in pool.source_names or quota.group == TEXT_ONLY or not colon:
        return None
    return column.strip()


def groups(
    quotas: Sequence[Quota], pool: Pool, columns: NamedColumns, within: np.ndarray
) -> Groups:
    """The group of each row.

    Arguments:
        quotas: the quotas.
        pool: n rows.
        columns: of the pool.
        within: bool [n], rows that can be selected.

    Raises ConfigError for unknown, ambiguous or overlapping groups.
    """
    rest = len(quotas)
    label = np.full(len(pool), rest, np.int32)
    for number, quota in enumerate(quotas):
        mask = _members(quota, pool, columns)
        overlap = mask & within & (label < rest)
        if overlap.any():
            row = int(np.flatnonzero(overlap)[0])
            raise ConfigError(
                f" and {opt('quota', quota.text)} overlap: "
                f"{int(overlap.sum()):,} rows are in both, such as row {row}. Give groups that "
                f"have "
                "no rows in common.",
                option="quota",
                value=quotas[label[row]].text,
            )
        label[mask & (label == rest)] = number
    return Groups(tuple(quotas), label)


def _members(quota: Quota, pool: Pool, columns: NamedColumns) -> np.ndarray:
    """Rows of the quota's group, bool [n]."""
    name, label = quota.group, opt("quota", quota.text)
    sources = pool.source_names
    column, colon, value = name.partition(":")
    if name in sources:
        return np.asarray(pool.source == sources.index(name))
    if name == TEXT_ONLY:
        return np.asarray(
            (pool.facts["images"] == 0)
            & ~pool.facts["video"]
            & ~pool.facts["audio"]
            & ~pool.unreadable
        )
    if not colon:
        known = [*sources, TEXT_ONLY]
        displayed = ", ".join(known[:12]) + (
            f" and {len(known) - 12:,} more" if len(known) > 12 else ""
        )
        raise ConfigError(
            f"{label}: no source is called {name!r}.{did_you_mean(name, known)} Sources: "
            f"{displayed}. "
            "For another column write COLUMN:VALUE, such as images:0."
            + (f" {name!r} is a signal: write {name}:VALUE." if named_field(name) else "")
        )
    column, exact, value = column.strip(), value, value.strip()
    if column == SOURCE:
        if value not in sources:
            raise ConfigError(
                f"{label}: no source is called {value!r}.{did_you_mean(value, list(sources))}"
            )
        return np.asarray(pool.source == sources.index(value))
    value = columns.value(column, value, label)
    values = columns.values(column, label)
    texts = [None if v is None else as_text(v) for v in values]
    value_of_group = exact if exact in texts else value  # the spaces of a record's own text count
    mask = np.fromiter((text == value_of_group for text in texts), bool, len(texts))
    if not mask.any():
        known = sorted({as_text(v) for v in values if v is not None})
        displayed = ", ".join(known[:12]) + (
            f" and {len(known) - 12:,} more" if len(known) > 12 else ""
        )
        raise ConfigError(
            f"{label}: no row has {column} {value!r}.{did_you_mean(value, known)} There are: "
            f"{displayed}."
        )
    return mask


def bounds(groups: Groups, available: np.ndarray, given: np.ndarray, budget: int) -> Bounds:
    """The bounds of each group.

    Arguments:
        groups: g groups.
        available: int64 [g], available rows.
        given: int64 [g], forced rows.
        budget: number of rows to select.

    Raises ConfigError, with the arithmetic, if no selection satisfies all quotas.
    """
    low, high = np.zeros(len(groups), np.int64), available.astype(np.int64).copy()
    for i, quota in enumerate(groups.quotas):
        minimum, maximum = quota.rows(budget)
        if minimum > available[i]:
            raise ConfigError(
                f" cannot be met: it requires at least "
                f"{_describe_bound(quota.low, minimum, budget)} and {int(available[i]):,} are "
                f"available. {_for_fewer_rows(quota, int(available[i]))}",
                option="quota",
                value=quota.text,
            )
        if maximum is not None:
            if given[i] > maximum:
                raise ConfigError(
                    f" cannot be met: it allows "
                    f"{_describe_bound(quota.high, maximum, budget)} and {int(given[i]):,} are "
                    f"always "
                    f"taken ({opt('keep')}, {opt('unscorable')}). Raise it, or keep fewer.",
                    option="quota",
                    value=quota.text,
                )
            high[i] = min(maximum, int(available[i]))
        low[i] = minimum
    needed = np.maximum(low, given)
    if needed.sum() > budget:
        larger_helps = _shares(q.low for q in groups.quotas) < 100
        raise ConfigError(
            f"The quotas cannot be met: they require at least {_sum(groups, needed)}, and the "
            f"budget is {budget:,}. Lower a quota{' or raise the budget' if larger_helps else ''}."
        )
    if high.sum() < budget <= available.sum():  # enough rows without quotas
        upper = [q.high for q in groups.quotas]
        counts = [bound is None or not bound.percent for bound in upper]
        fixed = high[: len(upper)][counts].sum() + high[len(upper) :].sum()  # for any budget
        smaller_helps = fixed > 0 or _shares(upper) >= 100
        raise ConfigError(
            f"The quotas cannot be met: they allow at most {_sum(groups, high)}, and the budget "
            f"is {budget:,}. Raise a quota{' or lower the budget' if smaller_helps else ''}."
        )
    return Bounds(low, high, given.astype(np.int64), available.astype(np.int64))


def group_targets(bounds: Bounds, chosen: np.ndarray, total: int) -> np.ndarray:
    """Number of rows to select from each group in addition to forced rows, int64 [g].

    Groups outside their bounds move to the nearest bound; the difference is divided among the
    others in proportion to their room.

    Arguments:
        bounds: bounds of the groups.
        chosen: int64 [g], rows that the method selected without quotas.
        total: number of rows to select.

    >>> b = Bounds(np.array([0, 5]), np.array([4, 99]), np.array([0, 0]), np.array([50, 99]))
    >>> group_targets(b, np.array([8, 2]), 10).tolist()
    [4, 6]
    """
    low = np.maximum(bounds.low - bounds.given, 0)
    high = bounds.high - bounds.given
    out = np.clip(chosen, low, high)
    if (missing := total - int(out.sum())) > 0:
        room = high - out
        weights = np.where(room > 0, np.maximum(chosen, 1), 0)  # more to groups the method prefers
        out = out + largest_remainder(missing, weights, room)
    elif missing < 0:
        surplus = out - low
        out = out - largest_remainder(-missing, surplus, surplus)
    return np.asarray(out, np.int64)


def _shares(found: Iterable[Bound | None]) -> Fraction:
    """The sum of the bounds that are shares of the budget, in percent."""
    return sum((b.value for b in found if b is not None and b.percent), Fraction(0))


def _for_fewer_rows(quota: Quota, available: int) -> str:
    """What to do about a quota that requires more than the available rows."""
    if not available:
        return "Leave it out, or add such rows to the pool."
    if quota.low is not None and quota.low.percent:
        return "Lower it, or the budget."
    return f"Give at most {available:,}, or add such rows to the pool."


def _describe_bound(bound: object, rows: int, budget: int) -> str:
    """A bound as text: "5% of 1,000 = 50 rows", "50 rows"."""
    return (
        f"{bound} of {budget:,} = {rows:,} rows" if str(bound).endswith("%") else f"{rows:,} rows"
    )


def _sum(groups: Groups, rows: np.ndarray) -> str:
    """Rows of the groups together: "120 rows (100 of ocr_vqa, 20 of coco)"."""
    parts = [
        f"{int(r):,} of {name}"
        for name, r in zip(groups.names, rows, strict=True)
        if r or name != REST
    ]
    displayed = parts if len(parts) <= 12 else [*parts[:11], f"{len(parts) - 11} more groups"]
    return f"{pluralize(int(rows.sum()))} ({', '.join(displayed)})"
