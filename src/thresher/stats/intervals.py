"""95% intervals for an accuracy whose rows come in clusters (several questions about one image).

Wilson's interval, at the effective number of rows: the rows, divided by the design effect that the clusters show (the
variance of the accuracy with whole clusters as the unit, over the variance it would have if rows were independent), and
with Student's quantile for the number of clusters. Never narrower than for independent rows. Deterministic, no
resampling, and sensible at 0% and 100%, where a bootstrap or a normal interval has no width. Pure numpy.
"""

from __future__ import annotations

import math

import numpy as np

Z = 1.959963984540054


def interval(correct: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Of the mean of `correct` (bool or float in [0, 1], [n]); `cluster`: int [n], equal for rows that belong together."""
    x = np.asarray(correct, np.float64)
    n = len(x)
    if n == 0:
        return (0.0, 1.0)
    return _wilson(float(x.mean()), (x - x.mean()) / n, n, cluster)


def macro_interval(correct: np.ndarray, group: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Of the unweighted mean over groups of each group's mean; `group`: int [n]. A cluster may reach over groups."""
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
    """`residual` [n]: what each row adds to (estimate - truth), up to sign; it sums to 0."""
    _, cluster = np.unique(cluster, return_inverse=True)
    clusters = int(cluster.max()) + 1
    if clusters < 2:
        return _bounds(p, 1.0, Z)  # one image: as good as one row
    sums = np.bincount(cluster, weights=residual)
    variance = float((sums**2).sum())
    if (
        not np.abs(residual).max() > 1e-12
    ):  # all right or all wrong: nothing is seen of the clusters, so each is one row
        rows = float(clusters)
    else:
        rows = min(p * (1 - p) / max(variance, 1e-300), float(n))
    return _bounds(p, max(rows, 1.0), student(clusters - 1))


def _bounds(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p)))


def student(degrees: int) -> float:
    """The two-sided 95% quantile of Student's t, to 0.1% from 4 degrees on; exact for 1 and 2.

    >>> [round(student(d), 2) for d in (1, 2, 5, 10, 30, 1000)]
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
