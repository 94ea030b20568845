"""Trusted strata: rows of groups by a loss, the surprising ones of each group only when no others
are left (winnow's sampling).

    trusted     the `keep` part of each group with the lowest loss
    weight of a group  =  rows · (median difficulty of its trusted rows) ^ power

Groups too small for a rank to say anything (`LEAST_ROWS`) are trusted whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.samplers.apportionment import largest_remainder
from thresher.samplers.ordering import inverse_permutation, order_by, stable_order
from thresher.samplers.stratified import rank_within

LEAST_ROWS = 6


@dataclass(frozen=True)
class TrustedStrata:
    """Result of `trusted_strata`.

    rows: int64 [k], trusted rows first, each kind in `ties` order.
    trusted: bool [n].
    rank: int64 [n], place of the row's loss in its group, 0 = lowest.
    by_loss: int64 [n], the rows by group and rank.
    size, quota: int64 [groups], rows of each group and rows taken.
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
    """Take `min(k, n)` rows.

    Arguments:
        loss: finite [n], >= 0.
        group: int [n], >= 0.
        k: number of rows to take.
        ties: uint64 [n], distinct; the draw inside a group takes the smallest.
        keep: part of each group that is trusted, above 0 and at most 1: a row is if
            (rank + 1/2) / rows < keep.
        power: >= 0, of the median in the weight; 0: groups count by their rows.
        difficulty: finite [n], >= 0; None: the loss.
        allowed: bool [n], False: not trusted whatever its loss. None: all.

    What the trusted rows of a group cannot give goes to other groups by their weights; when all
    trusted rows are taken, untrusted ones follow by the same weights, those of a group from the
    lowest loss upwards.
    """
    n = len(loss)
    size = np.bincount(group) if n else np.zeros(0, np.int64)
    by_tie = np.argsort(ties)
    tie_rank = inverse_permutation(by_tie)
    by_loss = order_by(group, inverse_permutation(by_tie[stable_order(loss[by_tie])]))
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
    rows = taken[np.lexsort((ties[taken], ~trusted[taken]))]
    return TrustedStrata(rows.astype(np.int64), trusted, rank, by_loss, size, quota)


def _medians(values: np.ndarray, order: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The median of some rows of each group, float64 [groups]; 0 for a group without any.

    `order`: int64, these rows by group and value. `count`: how many each group has.
    """
    ordered = np.append(np.asarray(values[order], np.float64), 0.0)
    start, last = np.cumsum(count) - count, len(ordered) - 1
    low = np.minimum(start + np.maximum(count - 1, 0) // 2, last)
    high = np.minimum(start + count // 2, last)
    return np.where(count > 0, (ordered[low] + ordered[high]) / 2, 0.0)
