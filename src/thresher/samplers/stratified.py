"""A fair draw from every group."""

from __future__ import annotations

from typing import Literal

import numpy as np

from thresher.samplers.allocate import allocate, water_fill
from thresher.samplers.orders import stable_order


def rank_within(group: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Place of each position inside its group, int64 [n], 0 = first. `order`: all positions, sorted by group first."""
    g = group[order]
    n = len(g)
    start = np.r_[True, g[1:] != g[:-1]] if n else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(start, np.arange(n), 0))
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - first
    return rank


def stratified(
    group: np.ndarray, k: int, ties: np.ndarray, by: Literal["proportional", "equal"] = "proportional"
) -> np.ndarray:
    """`min(k, n)` positions in `ties` order, int64 [k].

    `group`: int >= 0 [n]. `by="proportional"`: each group keeps its share of the pool (largest remainder). `"equal"`:
    the same number from each, what a small group cannot give is shared by the others. Inside a group: the first rows in
    `ties` order.

    >>> stratified(np.array([0, 0, 0, 1]), 2, np.array([3, 1, 2, 0], np.uint64), "equal").tolist()
    [3, 1]
    """
    size = np.bincount(group) if len(group) else np.zeros(0, np.int64)
    quota = allocate(k, size, size) if by == "proportional" else water_fill(k, size)
    rank = rank_within(group, stable_order(group, ties))
    kept = np.flatnonzero(rank < quota[group])
    return kept[np.argsort(ties[kept], kind="stable")]
