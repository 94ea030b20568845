"""How far a subset's distribution of a number is from the pool's."""

from __future__ import annotations

import math

import numpy as np


def ks_distance(pool: np.ndarray, subset: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance, 0..1: the largest gap between the two cumulative shares. Unchanged by exp or log.

    `pool`: finite [n], `subset`: finite [k]; both not empty.

    >>> ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0]))
    0.5
    """
    pool, subset = np.sort(pool), np.sort(subset)
    at = np.unique(np.r_[pool, subset])
    of_pool = np.searchsorted(pool, at, side="right") / len(pool)
    of_subset = np.searchsorted(subset, at, side="right") / len(subset)
    return float(np.abs(of_pool - of_subset).max())


def ks_of_random(n: int, k: int) -> float:
    """About the median distance of a random subset of k of n rows whose numbers are all different; with ties it is
    smaller.

    Kolmogorov's median 0.8276, and the correction for drawing without replacement.

    >>> round(ks_of_random(38575, 11572), 4)
    0.0064
    """
    return 0.8276 * math.sqrt(max(1 / k - 1 / n, 0.0))
