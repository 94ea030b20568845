"""Two-component Gaussian mixtures: probability that a value belongs to the higher component of its
group.

Fitted by expectation-maximisation on all groups at once, starting from the best threshold of each
(`bimodality`) instead of a random start.
"""

from __future__ import annotations

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
GAIN = 3.0
"""Additional parameters of the second component; each must gain ln(rows) / 2 nats of likelihood
(Bayesian information criterion)."""


def upper_component(values: np.ndarray, group: np.ndarray, iterations: int = 50) -> np.ndarray:
    """Probability that a value belongs to the higher component of its group: float64 [n], 0 … 1.

    Non-decreasing in the values of a group. It is 0 in groups with fewer than `LEAST_ROWS` rows,
    and in groups where two components are not better than one by the Bayesian information criterion
    or are not `APART`. A single mode with a long tail is often mistaken for two.

    Arguments:
        values: finite [n].
        group: int [n], >= 0.
        iterations: of expectation-maximisation, at least 1.

    >>> values = np.array([0.1, 0.2, 0.0, 0.1, 0.2, 0.1, 0.0, 0.1, 5.0, 5.5])
    >>> upper_component(values, np.zeros(10, int)).round(2).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    """
    x = np.asarray(values, np.float64)
    n, of = len(x), np.asarray(group, np.int64)
    if not n:
        return np.zeros(0)
    order = np.lexsort((x, of))
    x, of = x[order], of[order]
    size = np.bincount(of)

    def total(each: np.ndarray) -> np.ndarray:
        return np.bincount(of, each, len(size))

    rows = np.maximum(size, 1)
    mean = total(x) / rows
    spread = np.sqrt(total((x - mean[of]) ** 2) / rows)
    known = (size >= LEAST_ROWS) & (spread > 0)
    spread = np.where(spread > 0, spread, 1.0)
    x = (x - mean[of]) / spread[of]  # each group with mean 0 and variance 1
    place = np.arange(n) - (np.cumsum(size) - size)[of]
    upper = (place >= best_cuts(x, of)[of]).astype(np.float64)  # [n], responsibility
    for _ in range(iterations):
        weight, centre, sd = [], [], []
        for part in (1 - upper, upper):
            mass = total(part) + 1e-9
            middle = total(part * x) / mass
            weight.append(mass / rows)
            centre.append(middle)
            sd.append(np.sqrt(total(part * (x - middle[of]) ** 2) / mass + FLOOR**2))
        low, high = (
            np.log(w)[of] - np.log(s)[of] - ((x - c[of]) / s[of]) ** 2 / 2
            for w, c, s in zip(weight, centre, sd, strict=True)
        )
        both = np.logaddexp(low, high)
        upper = np.exp(high - both)
    gain = 2 * (total(both) + size / 2)  # one normal distribution: -x² / 2, which sums to size / 2
    apart = (centre[1] - centre[0]) / np.sqrt((sd[0] ** 2 + sd[1] ** 2) / 2)
    known &= (gain > GAIN * np.log(rows)) & (apart > APART)
    upper = np.where(known[of] & (x > centre[0][of]), upper, 0.0)
    # the wider component dominates in both tails: make the probability non-decreasing
    upper = np.maximum.accumulate(upper + 2 * of) - 2 * of
    out = np.empty(n)
    out[order] = upper
    return out
