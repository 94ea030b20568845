"""Sharing a whole number of rows out over groups.

Three rules, all with capacities (what a group cannot give is passed on to the others):
`allocate` follows weights by the largest remainder, `water_fill` gives equal shares, and `spread` is for groups that
have an order (bins of a histogram), where the running total matters more than the single group.
"""

from __future__ import annotations

import numpy as np


def allocate(total: int, weights: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Rows per group by largest remainder, int64 [g]; the sum is min(total, sum of capacity).

    `weights`: >= 0, finite [g], any scale. `capacity`: rows each group has, int [g]. A group over its capacity is cut
    to it and the excess goes to the others by their weights; groups of weight 0 get rows only when all others are
    exhausted. Equal remainders: the larger weight first, then the lower index.

    >>> allocate(10, np.array([1.0, 1.0, 1.0]), np.array([9, 9, 9])).tolist()
    [4, 3, 3]
    >>> allocate(10, np.array([8.0, 1.0, 1.0]), np.array([2, 9, 9])).tolist()
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
        if not open_.any():  # only groups that nobody asked for have rows left: by what they have
            open_ = capacity > quota
            weights = np.where(open_, capacity - quota, 0).astype(np.float64)
        share = np.where(open_, left * (weights / weights[open_].sum()), 0.0)
        full = open_ & (share >= capacity - quota)
        if full.any():  # settle the groups that give all they have, then share the rest again
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
    """Equal rows per group as far as each has them, int64 [g]: `allocate` with equal weights.

    >>> water_fill(10, np.array([1, 100, 100])).tolist()
    [1, 5, 4]
    """
    return allocate(total, np.ones(len(capacity)), capacity)


def spread(total: int, size: np.ndarray) -> np.ndarray:
    """Rows per ordered group, int64 [g], in proportion to `size` [g]; the sum is min(total, sum of size).

    Each group gets its exact share rounded up or down, so that every running total is within half a row of the exact
    one. Largest remainder does not promise that: twenty equal bins and ten rows would give the first ten bins one
    each.

    >>> spread(3, np.array([10, 10, 10, 10, 10, 10])).tolist()
    [1, 0, 1, 0, 1, 0]
    """
    size = np.asarray(size, np.int64)
    n = int(size.sum())
    if n == 0:
        return np.zeros(len(size), np.int64)
    total = min(int(total), n)
    running = (2 * np.cumsum(size) * total + n) // (2 * n)  # whole numbers: halves round up, no binary fractions
    return np.diff(running, prepend=0)
