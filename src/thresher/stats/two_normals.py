"""Two-component Gaussian mixtures: probability that a value belongs to the higher component of its
group.

Fitted by expectation-maximisation on all groups at once, starting from the best threshold of each
(`bimodality`) instead of a random start.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from thresher.stats.bimodality import best_cuts

LEAST_ROWS = 8
"""Minimum number of rows of a group."""
APART = 2.0
"""Ashman's D above which two components count as separate: distance of their means divided by the
root mean square of their standard deviations."""
FLOOR = 0.1
"""Minimum standard deviation of a component, relative to that of the group, so that a few equal
values do not form a component of infinite density."""
BLOCK = 16_384
"""Rows that are fitted at a time: their arrays fit in a processor's cache."""
GAIN = 3.0
"""Additional parameters of the second component; each must gain ln(rows) / 2 nats of likelihood
(Bayesian information criterion)."""


def upper_component(
    values: np.ndarray, group: np.ndarray, iterations: int = 50, order: np.ndarray | None = None
) -> np.ndarray:
    """Probability that a value belongs to the higher component of its group: float64 [n], 0 … 1.

    Non-decreasing in the values of a group. It is 0 in groups with fewer than `LEAST_ROWS` rows,
    and in groups where two components are not better than one by the Bayesian information criterion
    or are not `APART`. A single mode with a long tail is often mistaken for two.

    Arguments:
        values: finite [n].
        group: int [n], >= 0.
        iterations: of expectation-maximisation, at least 1.
        order: int64 [n], the rows sorted by group and value, if already known.

    >>> values = np.array([0.1, 0.2, 0.0, 0.1, 0.2, 0.1, 0.0, 0.1, 5.0, 5.5])
    >>> upper_component(values, np.zeros(10, int)).round(2).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    """
    x = np.asarray(values, np.float64)
    n, of = len(x), np.asarray(group, np.int64)
    if not n:
        return np.zeros(0)
    order = np.lexsort((x, of)) if order is None else order
    x, of = x[order], of[order]
    size = np.bincount(of)
    rows = np.maximum(size, 1)
    mean = np.bincount(of, x, len(size)) / rows
    spread = np.sqrt(np.bincount(of, (x - mean[of]) ** 2, len(size)) / rows)
    known = (size >= LEAST_ROWS) & (spread > 0)
    spread = np.where(spread > 0, spread, 1.0)
    x = (x - mean[of]) / spread[of]  # each group with mean 0 and variance 1
    place = np.arange(n) - (np.cumsum(size) - size)[of]
    first = (place >= best_cuts(x, of)[of]).astype(np.float64)  # [n], responsibility
    upper = np.zeros(n)
    for block in _blocks(of, known[of]):
        local = np.cumsum(np.diff(of[block], prepend=of[block[0]]) > 0)
        upper[block] = _fitted(x[block], local, first[block], iterations)
    # the wider component dominates in both tails: make the probability non-decreasing
    upper = np.maximum.accumulate(upper + 2 * of) - 2 * of
    out = np.empty(n)
    out[order] = upper
    return out


def _blocks(of: np.ndarray, known: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of whole groups, some `BLOCK` at a time: int64 indices.

    Arguments:
        of: int [n], group of each row, ascending.
        known: bool [n], rows of groups that are fitted.
    """
    rows = np.flatnonzero(known)
    ends = np.flatnonzero(np.diff(of[rows], append=-1)) + 1  # where a group ends in `rows`
    start = 0
    while start < len(rows):
        end = int(ends[np.searchsorted(ends, min(start + BLOCK, len(rows)))])
        yield rows[start:end]
        start = end


def _fitted(x: np.ndarray, of: np.ndarray, upper: np.ndarray, iterations: int) -> np.ndarray:
    """Responsibility of the higher component, float64 [m]; 0 in groups where two components are not
    better than one or are not `APART`.

    Arguments:
        x: [m], with mean 0 and variance 1 in each group.
        of: int [m], group of each value, ascending.
        upper: float64 [m], responsibility to start with.
        iterations: at least 1.
    """
    size = np.bincount(of)

    def total(each: np.ndarray) -> np.ndarray:
        return np.bincount(of, each, len(size))

    for _ in range(iterations):
        centre, sd, density = [], [], []
        for part in (1 - upper, upper):
            mass = total(part) + 1e-9
            centre.append(total(part * x) / mass)
            distance = x - centre[-1][of]
            sd.append(np.sqrt(total(part * distance**2) / mass + FLOOR**2))
            height = np.log(mass / size) - np.log(sd[-1])
            density.append(height[of] - (distance / sd[-1][of]) ** 2 / 2)
        low, high = density
        both = np.logaddexp(low, high)
        upper = np.exp(high - both)
    gain = 2 * (total(both) + size / 2)  # one normal distribution: -x² / 2, which sums to size / 2
    apart = (centre[1] - centre[0]) / np.sqrt((sd[0] ** 2 + sd[1] ** 2) / 2)
    two = (gain > GAIN * np.log(size)) & (apart > APART)
    return np.where(two[of] & (x > centre[0][of]), upper, 0.0)
