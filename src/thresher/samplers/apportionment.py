"""Apportionment: dividing a whole number of rows among groups.

All rules respect capacities; what a group cannot give is passed on to the others.
`largest_remainder` follows weights, `water_fill` gives equal shares, and `cumulative_apportionment`
is for ordered groups (histogram bins), where the running total matters more than a single group.
"""

from __future__ import annotations

import numpy as np


def largest_remainder(total: int, weights: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Rows per group by the largest remainder method.

    Arguments:
        total: number of rows to divide.
        weights: finite [g], >= 0, on any scale.
        capacity: int [g], rows available in each group.

    Returns int64 [g] with sum min(total, sum of capacity). A group above its capacity is capped and
    the excess goes to the others by their weights; groups of weight 0 get rows only when all others
    are exhausted. Equal remainders: the larger weight first, then the lower index.

    >>> largest_remainder(10, np.array([1.0, 1.0, 1.0]), np.array([9, 9, 9])).tolist()
    [4, 3, 3]
    >>> largest_remainder(10, np.array([8.0, 1.0, 1.0]), np.array([2, 9, 9])).tolist()
    [2, 4, 4]
    """
    weights = np.asarray(weights, np.float64)
    capacity = np.asarray(capacity, np.int64)
    assert weights.shape == capacity.shape and np.isfinite(weights).all()
    assert (weights >= 0).all() and (capacity >= 0).all()
    quota = np.zeros(len(capacity), np.int64)
    left = min(int(total), int(capacity.sum()))
    open_ = (weights > 0) & (capacity > 0)
    while left > 0:
        if not open_.any():  # only groups of weight 0 have rows left: use their sizes as weights
            open_ = capacity > quota
            weights = np.where(open_, capacity - quota, 0).astype(np.float64)
        share = np.where(open_, left * (weights / weights[open_].sum()), 0.0)
        full = open_ & (share >= capacity - quota)
        if full.any():  # exhaust the groups at capacity, then divide the rest again
            left -= int((capacity - quota)[full].sum())
            quota[full] = capacity[full]
            open_ &= ~full
            continue
        whole = np.floor(share + 1e-9).astype(np.int64)
        rest = left - int(whole.sum())
        remainder = np.where(open_, np.round(share - whole, 9), -1.0)
        index = np.arange(len(quota))
        whole[np.lexsort((index, -weights, -remainder))[:rest]] += 1
        return quota + whole
    return quota


def water_fill(total: int, capacity: np.ndarray) -> np.ndarray:
    """Equal numbers of rows per group, up to each group's capacity, int64 [g].

    Arguments:
        total: number of rows to divide.
        capacity: int [g], rows available in each group.

    >>> water_fill(10, np.array([1, 100, 100])).tolist()
    [1, 5, 4]
    """
    return largest_remainder(total, np.ones(len(capacity)), capacity)


def cumulative_apportionment(total: int, size: np.ndarray) -> np.ndarray:
    """Rows per ordered group in proportion to its size, with the running total always exact.

    Each group gets its exact share rounded up or down so that every running total is within half a
    row of the exact one. Largest remainder does not guarantee that: for twenty equal bins and ten
    rows it gives one row to each of the first ten bins.

    Arguments:
        total: number of rows to divide.
        size: int [g], group sizes in order.

    Returns int64 [g] with sum min(total, sum of size).

    >>> cumulative_apportionment(3, np.array([10, 10, 10, 10, 10, 10])).tolist()
    [1, 0, 1, 0, 1, 0]
    """
    size = np.asarray(size, np.int64)
    n = int(size.sum())
    if n == 0:
        return np.zeros(len(size), np.int64)
    total = min(int(total), n)
    running = (2 * np.cumsum(size) * total + n) // (2 * n)  # integer arithmetic: halves round up
    return np.diff(running, prepend=0)
