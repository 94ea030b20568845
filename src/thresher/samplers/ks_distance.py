"""How far a subset's distribution of a number is from the pool's."""

from __future__ import annotations

import math

import numpy as np

from thresher.samplers.orders import remembered


def ks_distance(pool: np.ndarray, subset: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance, 0..1: the largest gap between the two cumulative shares. Unchanged by exp or log.

    `pool`: finite [n], `subset`: finite [k]; both not empty.

    >>> ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0]))
    0.5
    """
    given = pool
    pool, below = remembered("ks", (given,), lambda: _below(given))
    subset, below_subset = _below(subset)
    in_pool = np.abs(below / len(pool) - np.searchsorted(subset, pool, side="right") / len(subset))
    in_subset = np.abs(np.searchsorted(pool, subset, side="right") / len(pool) - below_subset / len(subset))
    return float(max(in_pool.max(), in_subset.max()))


def _below(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values sorted, and how many of them are at or below each."""
    ordered = np.sort(values)
    return ordered, np.searchsorted(ordered, ordered, side="right")


def ks_of_random(n: int, k: int) -> float:
    """About the median distance of a random subset of k of n rows whose numbers are all different; with ties it is
    smaller.

    Kolmogorov's median 0.8276, and the correction for drawing without replacement.

    >>> round(ks_of_random(38575, 11572), 4)
    0.0064
    """
    return 0.8276 * math.sqrt(max(1 / k - 1 / n, 0.0))
