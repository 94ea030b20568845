"""Kolmogorov-Smirnov distance between a subset and its pool."""

from __future__ import annotations

import math

import numpy as np

from thresher.samplers.ordering import cached


def ks_distance(pool: np.ndarray, subset: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance, 0..1: the largest gap between the two empirical CDFs.

    Invariant under monotone transforms such as exp and log.

    Arguments:
        pool: finite [n], n > 0.
        subset: finite [k], k > 0.

    >>> ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0]))
    0.5
    """
    pool_sorted, below = cached("ks", (pool,), lambda: _below(pool))
    subset, below_subset = _below(subset)
    in_pool = np.abs(
        below / len(pool) - np.searchsorted(subset, pool_sorted, side="right") / len(subset)
    )
    in_subset = np.abs(
        np.searchsorted(pool_sorted, subset, side="right") / len(pool) - below_subset / len(subset)
    )
    return float(max(in_pool.max(), in_subset.max()))


def _below(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values sorted, and for each the number of values that are not larger."""
    ordered = np.sort(values)
    return ordered, np.searchsorted(ordered, ordered, side="right")


def median_random_ks(n: int, k: int) -> float:
    """Approximate median distance of a random subset of k of n rows with distinct values.

    Kolmogorov's median 0.8276 with the correction for sampling without replacement; smaller with
    ties.

    Arguments:
        n: number of rows.
        k: size of the subset, 1 to n.

    >>> round(median_random_ks(38575, 11572), 4)
    0.0064
    """
    return 0.8276 * math.sqrt(max(1 / k - 1 / n, 0.0))
