"""95% confidence intervals for an accuracy with clustered rows (several questions about one image).

Wilson's interval at the effective sample size: the number of rows divided by the design effect of
the clusters (the variance of the accuracy with whole clusters as the unit, over its variance for
independent rows), with Student's quantile for the number of clusters. Never narrower than for
independent rows. Deterministic, no resampling, and sensible at 0% and 100%, where a bootstrap or a
normal interval has no width.
"""

from __future__ import annotations

import math

import numpy as np

LEVEL = 0.95
"""Confidence level of all intervals."""


def interval(correct: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Confidence interval (low, high) of the mean of `correct`, fractions.

    Arguments:
        correct: bool or float in [0, 1], [n].
        cluster: int [n], cluster labels.
    """
    x = np.asarray(correct, np.float64)
    n = len(x)
    if n == 0:
        return (0.0, 1.0)
    return _wilson(float(x.mean()), (x - x.mean()) / n, n, cluster)


def macro_interval(
    correct: np.ndarray, group: np.ndarray, cluster: np.ndarray
) -> tuple[float, float]:
    """Confidence interval (low, high) of the unweighted mean of the groups' means, fractions.

    Arguments:
        correct: bool or float in [0, 1], [n].
        group: int [n], group labels.
        cluster: int [n], cluster labels; a cluster may span several groups.
    """
    x = np.asarray(correct, np.float64)
    n = len(x)
    if n == 0:
        return (0.0, 1.0)
    _, group = np.unique(group, return_inverse=True)
    size = np.bincount(group).astype(np.float64)
    mean = np.bincount(group, weights=x) / size
    residual = (x - mean[group]) / (size[group] * len(size))
    return _wilson(float(mean.mean()), residual, n, cluster)


def _wilson(p: float, residual: np.ndarray, n: int, cluster: np.ndarray) -> tuple[float, float]:
    """Wilson's interval at the effective sample size.

    `residual` [n]: each row's contribution to (estimate - truth), up to sign; sums to 0.
    """
    _, cluster = np.unique(cluster, return_inverse=True)
    clusters = int(cluster.max()) + 1
    if clusters < 2:
        return _bounds(p, 1.0, t_quantile(math.inf))  # one cluster counts as one row
    sums = np.bincount(cluster, weights=residual)
    variance = float((sums**2).sum())
    if not np.abs(residual).max() > 1e-12:  # all right or all wrong: count each cluster as one row
        rows = float(clusters)
    else:
        rows = min(p * (1 - p) / max(variance, 1e-300), float(n))
    return _bounds(p, max(rows, 1.0), t_quantile(clusters - 1))


def _bounds(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p)))


def t_quantile(freedom: float) -> float:
    """Half-width of Student's two-sided 95% interval, in standard errors.

    Arguments:
        freedom: degrees of freedom, > 0; infinity gives the normal quantile.

    >>> [round(t_quantile(v), 2) for v in (1, 2, 6.5, 30, float("inf"))]
    [12.71, 4.3, 2.4, 2.04, 1.96]
    """
    from scipy.special import stdtrit  # not at the top: only commands that evaluate need it

    return float(stdtrit(min(freedom, 1e12), (1 + LEVEL) / 2))
