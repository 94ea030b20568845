"""winnow's sampling: a stratified sample that takes low-loss rows of each group first.

    trusted            the `keep` share of each group with the lowest loss
    weight of a group  rows · (median difficulty of its trusted rows) ^ power

All rows of a group with fewer than `LEAST_ROWS` rows are trusted, since ranks mean little there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.samplers.apportionment import largest_remainder
from thresher.samplers.ordering import inverse_permutation, order_by, order_hashes, stable_order
from thresher.samplers.stratified import rank_within

LEAST_ROWS = 6


@dataclass(frozen=True)
class TrustedStrata:
    """Result of `trusted_strata`.

    rows: int64 [k], selected rows: trusted ones first, each part in the order of `ties`.
    trusted: bool [n].
    rank: int64 [n], rank of the row's loss in its group, 0 = lowest.
    by_loss: int64 [n], all rows sorted by group and rank.
    size, quota: int64 [groups], rows of each group and rows selected from it.
    """

    rows: np.ndarray
    trusted: np.ndarray
    rank: np.ndarray
    by_loss: np.ndarray
    size: np.ndarray
    quota: np.ndarray


def trusted_strata(
    loss: np.ndarray,
    group: np.ndarray,
    k: int,
    ties: np.ndarray,
    *,
    keep: float = 0.5,
    power: float = 0.5,
    difficulty: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
) -> TrustedStrata:
    """Select `min(k, n)` rows.

    Quotas are proportional to the groups' weights. If a group has too few trusted rows, the rest
    goes to the other groups by weight. Once all trusted rows are taken, untrusted rows follow with
    the same weights, lowest loss first inside a group.

    Arguments:
        loss: finite [n], >= 0.
        group: int [n], >= 0.
        k: number of rows to select.
        ties: uint64 [n], distinct; trusted rows of a group are taken in ascending order of it.
        keep: share of each group that is trusted, above 0 and at most 1: a row is trusted if
            (rank + 1/2) / rows < keep.
        power: >= 0, exponent of the median difficulty in the weight; 0: weight = rows.
        difficulty: finite [n], >= 0; None: the loss.
        allowed: bool [n], False: not trusted whatever the loss; None: all are allowed.
    """
    n = len(loss)
    size = np.bincount(group) if n else np.zeros(0, np.int64)
    by_tie = order_hashes(ties)
    tie_rank = inverse_permutation(by_tie)
    by_value = by_tie[stable_order(loss[by_tie])]
    by_loss = by_value[order_by(group[by_value])]
    rank = rank_within(group, by_loss)
    rows_of = size[group]
    trusted = ((rank + 0.5) / np.maximum(rows_of, 1) < keep) | (rows_of < LEAST_ROWS)
    if allowed is not None:
        trusted &= allowed
    capacity = np.bincount(group[trusted], minlength=len(size))
    hard = loss if difficulty is None else difficulty
    by_hard = by_loss if difficulty is None else np.lexsort((difficulty, group))
    typical = _medians(hard, by_hard[trusted[by_hard]], capacity)
    weight = size * typical**power
    quota = largest_remainder(min(k, int(capacity.sum())), weight, capacity)
    quota += largest_remainder(min(k, n) - int(quota.sum()), weight, size - quota)
    order = order_by(group, np.where(trusted, tie_rank, n + rank))
    taken = np.flatnonzero(rank_within(group, order) < quota[group])
    rows = taken[order_by(~trusted[taken], tie_rank[taken])]
    return TrustedStrata(rows.astype(np.int64), trusted, rank, by_loss, size, quota)


def _medians(values: np.ndarray, order: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Median of a subset of rows per group, float64 [groups]; 0 for a group without such rows.

    Arguments:
        values: [n].
        order: int64, the rows of the subset sorted by group and value.
        count: int64 [groups], rows of the subset in each group.
    """
    ordered = np.append(np.asarray(values[order], np.float64), 0.0)
    start, last = np.cumsum(count) - count, len(ordered) - 1
    low = np.minimum(start + np.maximum(count - 1, 0) // 2, last)
    high = np.minimum(start + count // 2, last)
    return np.where(count > 0, (ordered[low] + ordered[high]) / 2, 0.0)
