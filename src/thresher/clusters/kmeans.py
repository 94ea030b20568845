"""Spherical k-means in exact arithmetic, for a few clusters or tens of thousands.

Above `DIRECT` comparisons the rows are first divided into cells, by k-means too, and each cell into
its share of the clusters: a row is compared with hundreds of centres instead of thousands, so a
million rows take seconds an iteration. A row near the border of a cell may then miss a slightly
nearer centre beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.clusters.vectors import SCALE, fixed_point
from thresher.samplers.apportionment import largest_remainder
from thresher.samplers.ordering import order_by

DIRECT = 1 << 29  # rows times clusters up to which every row is compared with every centre
CELL_CLUSTERS = 256  # clusters of a cell above that, about
ROUNDS = 8  # in which the first centres are drawn
_PRODUCTS = 1 << 22  # scores computed at once


@dataclass(frozen=True)
class Clustering:
    """label: int32 [n], 0 … k - 1, no cluster empty. centres: int16 [k, d], unit vectors.

    score: int32 [n], cosine with the row's centre, `SCALE`^2 = 1; 0 for a vector of zeros.
    """

    label: np.ndarray
    centres: np.ndarray
    score: np.ndarray


def spherical_kmeans(vectors: np.ndarray, k: int, iterations: int = 15) -> Clustering:
    """At most `k` clusters of unit vectors, the largest first.

    Deterministic, without a seed. Fewer than k where fewer vectors differ.

    Arguments:
        vectors: int16 [n, d] from `unit_vectors`; the result depends on the order of the rows, so
            it must not be the file's.
        k: number of clusters, >= 1.
        iterations: reassignments at most; fewer if nothing changes any more.
    """
    n = len(vectors)
    if n == 0:
        empty = np.zeros(0, np.int32)
        return Clustering(empty, vectors[:0], empty)
    k = min(k, n)
    if n * k <= DIRECT:
        label, _ = _lloyd(vectors, k, iterations)
    else:
        cell, _ = _lloyd(vectors, -(-k // CELL_CLUSTERS), iterations)
        label = _divide(vectors, cell, k, iterations)
    return _ordered(vectors, label)


def nearest(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each row, int32 [n], the first of equals; and its score, int32 [n]."""
    label, score = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.int32)
    table = np.ascontiguousarray(centres.T, np.float32)
    step = max(_PRODUCTS // max(len(centres), 1), 1)
    for start in range(0, len(vectors), step):
        rows = slice(start, start + step)
        products = vectors[rows].astype(np.float32) @ table
        label[rows] = products.argmax(axis=1)
        score[rows] = products[np.arange(len(products)), label[rows]]
    return label, score


def _lloyd(vectors: np.ndarray, k: int, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """label: int32 [n]; centres: int16 [<= k, d]. A cluster without rows keeps its centre."""
    centres = _first_centres(vectors, k)
    label, _ = nearest(vectors, centres)
    for _ in range(iterations - 1):
        centres = _means(vectors, label, centres)
        before, (label, _) = label, nearest(vectors, centres)
        if (before == label).all():
            break
    return label, centres


def _means(vectors: np.ndarray, label: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The unit vector of each cluster's sum, int16 [k, d]; `centres` where the sum is zero."""
    order = order_by(label)
    clusters, start = np.unique(label[order], return_index=True)
    total = np.zeros(centres.shape, np.int64)
    total[clusters] = np.add.reduceat(vectors[order], start, axis=0, dtype=np.int64)
    new = fixed_point(total.astype(np.float64))
    return np.where((total != 0).any(axis=1)[:, None], new, centres)


def _first_centres(vectors: np.ndarray, k: int) -> np.ndarray:
    """Rows as first centres, int16 [<= k, d]: k-means++ in a few rounds instead of k.

    A round draws rows at equal steps of the running total of the squared distances to the centres
    so far: as likely as k-means++ draws them, without a random number.
    """
    n = len(vectors)
    chosen = np.unique(np.arange(-(-k // ROUNDS), dtype=np.int64) * n // -(-k // ROUNDS))
    best = nearest(vectors, vectors[chosen])[1]
    for left in range(ROUNDS - 1, 0, -1):
        wanted = -(-(k - len(chosen)) // left)
        distance = np.cumsum(np.maximum(SCALE**2 - best.astype(np.int64), 0))
        if wanted <= 0 or distance[-1] == 0:
            break
        at = (2 * np.arange(wanted, dtype=np.int64) + 1) * distance[-1] // (2 * wanted)
        new = np.setdiff1d(np.searchsorted(distance, at, side="right"), chosen)
        best = np.maximum(best, nearest(vectors, vectors[new])[1]) if len(new) else best
        chosen = np.concatenate([chosen, new])
    return np.unique(vectors[chosen], axis=0)


def _divide(vectors: np.ndarray, cell: np.ndarray, k: int, iterations: int) -> np.ndarray:
    """Each cell's rows in its share of k clusters, int32 [n]."""
    order = order_by(cell)
    size = np.bincount(cell)
    share = np.maximum(largest_remainder(k, size, size), 1)
    label, used, start = np.empty(len(cell), np.int32), 0, 0
    for rows, clusters in zip(size.tolist(), share.tolist(), strict=True):
        if not rows:
            continue
        members = order[start : start + rows]
        inner, centres = _lloyd(vectors[members], clusters, iterations)
        label[members] = used + inner
        used, start = used + len(centres), start + rows
    return label


def _ordered(vectors: np.ndarray, label: np.ndarray) -> Clustering:
    """Without empty clusters, renumbered: the largest first, of equals that of the first row."""
    _, first, label, size = np.unique(
        label, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), np.int32)
    rank[np.lexsort((first, -size))] = np.arange(len(size), dtype=np.int32)
    label = rank[label]
    centres = _means(vectors, label, np.zeros((len(size), vectors.shape[1]), np.int16))
    score = np.einsum("ij,ij->i", vectors, centres[label], dtype=np.int32, casting="safe")
    return Clustering(label, centres, score)
