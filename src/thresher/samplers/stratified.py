"""Stratified sampling."""

from __future__ import annotations

from typing import Literal

import numpy as np

from thresher.samplers.apportionment import largest_remainder, water_fill
from thresher.samplers.ordering import order_hashes, stable_order


def rank_within(group: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rank of each position within its group, int64 [n], 0 = first.

    Arguments:
        group: int [n], the group of each position.
        order: int64 [n], all positions, sorted by group first.
    """
    g = group[order]
    n = len(g)
    start = np.r_[True, g[1:] != g[:-1]] if n else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(start, np.arange(n), 0))
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - first
    return rank


def stratified(
    group: np.ndarray,
    k: int,
    ties: np.ndarray,
    by: Literal["proportional", "equal"] = "proportional",
) -> np.ndarray:
    """Take `min(k, n)` rows, in `ties` order, int64.

    Arguments:
        group: int [n], >= 0.
        k: number of rows to take.
        ties: uint64 [n]; within a group the rows with the smallest are taken.
        by: "proportional" keeps each group's share of the pool (largest remainder). "equal" takes
            the same number from each; what a small group cannot give is divided among the others.

    >>> stratified(np.array([0, 0, 0, 1]), 2, np.array([3, 1, 2, 0], np.uint64), "equal").tolist()
    [3, 1]
    """
    size = np.bincount(group) if len(group) else np.zeros(0, np.int64)
    quota = largest_remainder(k, size, size) if by == "proportional" else water_fill(k, size)
    rank = rank_within(group, stable_order(group, ties))
    kept = np.flatnonzero(rank < quota[group])
    return kept[order_hashes(ties[kept])]
