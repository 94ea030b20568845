"""95% confidence intervals for an accuracy with clustered rows (several questions about one image).

Wilson's interval at the effective sample size: the number of rows divided by the design effect of
the clusters (the variance of the accuracy with whole clusters as the unit, over its variance for
independent rows), with Student's quantile for the number of clusters. Never narrower than for
independent rows. Deterministic, no resampling, and sensible at 0% and 100%, where a bootstrap or a
normal interval has no width. Pure numpy.
"""

from __future__ import annotations

import math

import numpy as np

Z = 1.959963984540054


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
        return _bounds(p, 1.0, Z)  # one cluster counts as one row
    sums = np.bincount(cluster, weights=residual)
    variance = float((sums**2).sum())
    if not np.abs(residual).max() > 1e-12:  # all right or all wrong: count each cluster as one row
        rows = float(clusters)
    else:
        rows = min(p * (1 - p) / max(variance, 1e-300), float(n))
    return _bounds(p, max(rows, 1.0), student_t_quantile(clusters - 1))


def _bounds(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p)))


def student_t_quantile(degrees: int) -> float:
    """Two-sided 95% quantile of Student's t; exact for 1 and 2 degrees of freedom, within 0.1% from
    4
    on.

    >>> [round(student_t_quantile(d), 2) for d in (1, 2, 5, 10, 30, 1000)]
    [12.71, 4.3, 2.57, 2.23, 2.04, 1.96]
    """
    if degrees <= 2:
        return (12.706204736174694, 4.302652729749464)[degrees - 1]
    z, d = Z, float(degrees)
    return (
        z
        + (z**3 + z) / (4 * d)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * d**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * d**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * d**4)
    )
