"""Bimodality of values: share of their variance between the two sides of the best threshold
(Otsu's criterion)."""

from __future__ import annotations

import numpy as np

BIMODAL_SEPARATION = 0.8
"""Separation above which values count as bimodal. A normal sample of 30 has 0.66 ± 0.05, a uniform
one 0.75."""


def separation(
    values: np.ndarray, group: np.ndarray, least: int = 10, order: np.ndarray | None = None
) -> np.ndarray:
    """Largest between-class variance over all thresholds, divided by the total variance, per group:
    float64 [groups], 0 … 1; NaN for groups with fewer than `least` rows or without variance.

    Arguments:
        values: finite [n].
        group: int [n], >= 0.
        least: minimum number of rows, at least 2.
        order: int64 [n], the rows sorted by group and value, if already known.

    >>> separation(np.array([0.0, 0, 0, 1, 1, 1]), np.zeros(6, int), 2).round(3).tolist()
    [1.0]
    """
    size = np.bincount(group) if len(group) else np.zeros(0, np.int64)
    order = np.lexsort((values, group)) if order is None else order
    ordered, of = np.asarray(values, np.float64)[order], group[order]
    mean = np.bincount(group, values, len(size)) / np.maximum(size, 1)
    centred = ordered - mean[of]
    between = _between(centred, of, size)
    best, square = np.zeros(len(size)), np.zeros(len(size))
    np.maximum.at(best, of, between)
    np.add.at(square, of, centred**2)
    known = (size >= least) & (square > 0)
    return np.where(known, np.minimum(best * size / np.where(known, square, 1), 1.0), np.nan)


def best_cuts(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Number of rows below the threshold with the largest between-class variance, int64 [groups];
    the lowest such threshold if tied.

    Arguments:
        values: finite [n], sorted by group and value, with a mean of 0 in each group.
        group: int [n], >= 0, ascending.

    >>> best_cuts(np.array([-1.0, -1, -1, 3]), np.zeros(4, int)).tolist()
    [3]
    """
    size = np.bincount(group)
    between = _between(values, group, size)
    best = np.zeros(len(size))
    np.maximum.at(best, group, between)
    cut = size.copy()
    at = np.flatnonzero(between == best[group])
    place = at - (np.cumsum(size) - size)[group[at]] + 1
    np.minimum.at(cut, group[at], place)
    return cut


def _between(centred: np.ndarray, of: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Between-class sum of squares of a threshold after each value, divided by the group's rows.

    Arguments:
        centred: [n], sorted by group and value, minus the group's mean.
        of: int [n], group of each value.
        size: int [groups].
    """
    start = np.cumsum(size) - size
    running = np.cumsum(centred)  # over all groups; the sum of each group is about 0
    before = np.where(start > 0, running[np.maximum(start, 1) - 1] if len(running) else 0.0, 0.0)
    left = running - before[of]  # sum of the rows up to this one
    k = np.arange(len(centred)) - start[of] + 1
    m = size[of]
    return np.where(k < m, left**2 / (k * np.maximum(m - k, 1)), 0.0)
