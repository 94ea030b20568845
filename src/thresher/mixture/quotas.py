"""Quotas on a pool: which group each row is in, how many rows each group must and may give. Pure but for reading columns.

Groups must not overlap: a row in two of them would be counted twice, and which of the two quotas it should serve is not
said. Rows of no group are the rest, without bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError, nearest
from thresher.mixture.columns import SOURCE, PoolColumns, as_text
from thresher.mixture.spec import Quota
from thresher.samplers import largest_remainder

if TYPE_CHECKING:
    from thresher.pools import Pool

TEXT_ONLY = "text_only"
REST = "all other rows"


@dataclass(frozen=True)
class Groups:
    """`of`: int32 [n], pool order: the quota of each row; len(quotas) = the rest."""

    quotas: tuple[Quota, ...]
    of: np.ndarray

    def __len__(self) -> int:
        return len(self.quotas) + 1

    @property
    def names(self) -> list[str]:
        return [q.group for q in self.quotas] + [REST]


@dataclass(frozen=True)
class Bounds:
    """Rows of each group, int64 [g]: at least `low`, at most `high`, of which `given` are taken anyway; `there`: all there
    are. `low` <= `high` <= `there`, and `given` <= `high`."""

    low: np.ndarray
    high: np.ndarray
    given: np.ndarray
    there: np.ndarray


def columns_of(quotas: Sequence[Quota], pool: Pool) -> list[str]:
    """The columns that `groups` will read."""
    sources = pool.source_names
    return [
        q.group.partition(":")[0] for q in quotas if q.group not in sources and q.group != TEXT_ONLY and ":" in q.group
    ]


def groups(quotas: Sequence[Quota], pool: Pool, columns: PoolColumns, within: np.ndarray) -> Groups:
    """`within`: bool [n], rows that can be selected. Raises ConfigError: unknown, ambiguous or overlapping groups."""
    rest = len(quotas)
    of = np.full(len(pool), rest, np.int32)
    for number, quota in enumerate(quotas):
        mask = _members(quota, pool, columns)
        twice = mask & within & (of < rest)
        if twice.any():
            row = int(np.flatnonzero(twice)[0])
            raise ConfigError(
                f"--quota {quotas[of[row]].text} and --quota {quota.text} overlap: {int(twice.sum()):,} rows are in both, "
                f"such as row {row}. Which of the two such a row counts for is not said; give groups without a row in common."
            )
        of[mask & (of == rest)] = number
    return Groups(tuple(quotas), of)


def _members(quota: Quota, pool: Pool, columns: PoolColumns) -> np.ndarray:
    """bool [n]: rows of the quota's group."""
    name, flag = quota.group, f"--quota {quota.text}"
    sources = pool.source_names
    column, colon, value = name.partition(":")
    if name in sources:
        return np.asarray(pool.source == sources.index(name))
    if name == TEXT_ONLY:
        return np.asarray((pool.facts["images"] == 0) & ~pool.facts["video"] & ~pool.facts["audio"] & ~pool.unreadable)
    if not colon:
        known = [*sources, TEXT_ONLY]
        shown = ", ".join(known[:12]) + (f" and {len(known) - 12:,} more" if len(known) > 12 else "")
        raise ConfigError(
            f"{flag}: no source is called {name!r}.{nearest(name, known)} Sources: {shown}. Another column is named as "
            "COLUMN:VALUE, such as images:0."
        )
    if column == SOURCE:
        if value not in sources:
            raise ConfigError(f"{flag}: no source is called {value!r}.{nearest(value, list(sources))}")
        return np.asarray(pool.source == sources.index(value))
    values = columns.values(column, flag)
    mask = np.fromiter((v is not None and as_text(v) == value for v in values), bool, len(values))
    if not mask.any():
        known = sorted({as_text(v) for v in values if v is not None})
        shown = ", ".join(known[:12]) + (f" and {len(known) - 12:,} more" if len(known) > 12 else "")
        raise ConfigError(f"{flag}: no row has {column} {value!r}.{nearest(value, known)} There are: {shown}.")
    return mask


def bounds(groups: Groups, there: np.ndarray, given: np.ndarray, budget: int) -> Bounds:
    """`there`: rows of each group that can be taken, `given`: those of them that are taken anyway; int64 [g].

    Raises ConfigError with the arithmetic where no selection of `budget` rows satisfies all quotas.
    """
    low, high = np.zeros(len(groups), np.int64), there.astype(np.int64).copy()
    for i, quota in enumerate(groups.quotas):
        least, most = quota.rows(budget)
        if least > there[i]:
            raise ConfigError(
                f"--quota {quota.text} cannot be met: it asks for at least {_said(quota.low, least, budget)} and "
                f"{int(there[i]):,} can be taken. Lower it, or the budget."
            )
        if most is not None:
            if given[i] > most:
                raise ConfigError(
                    f"--quota {quota.text} cannot be met: it allows {_said(quota.high, most, budget)} and {int(given[i]):,} "
                    "are taken in any case (--keep, --unscorable). Raise it, or keep fewer."
                )
            high[i] = min(most, int(there[i]))
        low[i] = least
    needed = np.maximum(low, given)
    if needed.sum() > budget:
        raise ConfigError(
            f"The quotas cannot be met: {_sum(groups, needed)} = {int(needed.sum()):,} rows at least, and the budget is "
            f"{budget:,}. Lower a quota or raise the budget."
        )
    if high.sum() < budget <= there.sum():  # without quotas there would be enough: then they are what forbids it
        raise ConfigError(
            f"The quotas cannot be met: {_sum(groups, high)} = {int(high.sum()):,} rows at most, and the budget is "
            f"{budget:,}. Raise a quota or lower the budget."
        )
    return Bounds(low, high, given.astype(np.int64), there.astype(np.int64))


def targets(bounds: Bounds, chosen: np.ndarray, total: int) -> np.ndarray:
    """Rows that each group gives, int64 [g], beside those given anyway.

    `chosen`: what the method took of each, without quotas; `total`: rows to take. Groups outside their bounds move to the
    nearest bound; the difference goes to, or comes from, the others in proportion to what they have room for.

    >>> b = Bounds(np.array([0, 5]), np.array([4, 99]), np.array([0, 0]), np.array([50, 99]))
    >>> targets(b, np.array([8, 2]), 10).tolist()
    [4, 6]
    """
    low = np.maximum(bounds.low - bounds.given, 0)
    high = bounds.high - bounds.given
    out = np.clip(chosen, low, high)
    if (missing := total - int(out.sum())) > 0:
        room = high - out
        weights = np.where(room > 0, np.maximum(chosen, 1), 0)  # groups that the method likes get more of the rest
        out = out + largest_remainder(missing, weights, room)
    elif missing < 0:
        spare = out - low
        out = out - largest_remainder(-missing, spare, spare)
    return np.asarray(out, np.int64)


def _said(bound: object, rows: int, budget: int) -> str:
    """ "5% of 1,000 = 50 rows", "50 rows"."""
    return f"{bound} of {budget:,} = {rows:,} rows" if str(bound).endswith("%") else f"{rows:,} rows"


def _sum(groups: Groups, rows: np.ndarray) -> str:
    parts = [f"{int(r):,} ({name})" for name, r in zip(groups.names, rows, strict=True) if r or name != REST]
    shown = parts if len(parts) <= 12 else [*parts[:11], f"{len(parts) - 11} more groups"]
    return " + ".join(shown)
