"""Deterministic spherical k-means in exact arithmetic, for a few or tens of thousands of clusters.

Above `DIRECT` comparisons the rows are first divided into cells, by k-means too, and each cell is
divided into its share of the clusters. A row is then compared with hundreds of centres instead of
thousands, so an iteration over a million rows takes seconds. A row near the boundary of a cell may
miss a slightly nearer centre in another cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.clusters.vectors import SCALE, fixed_point
from thresher.samplers.apportionment import largest_remainder
from thresher.samplers.ordering import order_by

DIRECT = 1 << 29  # maximum rows times clusters for comparing every row with every centre
CELL_CLUSTERS = 256  # approximate number of clusters per cell above that
ROUNDS = 8  # rounds of the initialisation
_PRODUCTS = 1 << 22  # scores per block of the computation


@dataclass(frozen=True)
class Clustering:
    """Result of `spherical_kmeans`; no cluster is empty.

    label: int32 [n], 0 … k - 1.
    centres: int16 [k, d], unit vectors in fixed point.
    score: int32 [n], cosine with the row's centre in units of 1 / `SCALE`^2; 0 for a zero vector.
    """

    label: np.ndarray
    centres: np.ndarray
    score: np.ndarray


def spherical_kmeans(vectors: np.ndarray, k: int, iterations: int = 15) -> Clustering:
    """Cluster unit vectors, largest cluster first. Deterministic, without a seed.

    Arguments:
        vectors: int16 [n, d] from `unit_vectors`. The result depends on the order of the rows, so
            the order must not be that of the file.
        k: maximum number of clusters, >= 1; there are fewer if fewer vectors are distinct.
        iterations: maximum number of reassignments; stops early on convergence.
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
    """Nearest centre of each row, int32 [n] (the first if tied), and its score, int32 [n].

    Arguments:
        vectors: int16 [n, d], unit vectors in fixed point.
        centres: int16 [k, d], unit vectors in fixed point.
    """
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
    """Lloyd's algorithm: label, int32 [n], and centres, int16 [<= k, d]. A cluster without rows
    keeps its centre."""
    centres = _first_centres(vectors, k)
    label, _ = nearest(vectors, centres)
    for _ in range(iterations - 1):
        centres = _means(vectors, label, centres)
        before, (label, _) = label, nearest(vectors, centres)
        if (before == label).all():
            break
    return label, centres


def _means(vectors: np.ndarray, label: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Normalised sum of each cluster's vectors, int16 [k, d]; its old centre if the sum is zero."""
    order = order_by(label)
    clusters, start = np.unique(label[order], return_index=True)
    total = np.zeros(centres.shape, np.int64)
    total[clusters] = np.add.reduceat(vectors[order], start, axis=0, dtype=np.int64)
    new = fixed_point(total.astype(np.float64))
    return np.where((total != 0).any(axis=1)[:, None], new, centres)


def _first_centres(vectors: np.ndarray, k: int) -> np.ndarray:
    """Initial centres, int16 [<= k, d]: deterministic k-means++ in a few rounds instead of k.

    Each round takes rows at equal steps of the cumulative squared distance to the current centres:
    systematic instead of random sampling with the probabilities of k-means++.
    """
    n = len(vectors)
    chosen = np.unique(np.arange(-(-k // ROUNDS), dtype=np.int64) * n // -(-k // ROUNDS))
    best = nearest(vectors, vectors[chosen])[1]
    for left in range(ROUNDS - 1, 0, -1):
        count = -(-(k - len(chosen)) // left)
        distance = np.cumsum(np.maximum(SCALE**2 - best.astype(np.int64), 0))
        if count <= 0 or distance[-1] == 0:
            break
        at = (2 * np.arange(count, dtype=np.int64) + 1) * distance[-1] // (2 * count)
        new = np.setdiff1d(np.searchsorted(distance, at, side="right"), chosen)
        best = np.maximum(best, nearest(vectors, vectors[new])[1]) if len(new) else best
        chosen = np.concatenate([chosen, new])
    return np.unique(vectors[chosen], axis=0)


def _divide(vectors: np.ndarray, cell: np.ndarray, k: int, iterations: int) -> np.ndarray:
    """Divide each cell into its share of k clusters; labels, int32 [n]."""
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
    """Drop empty clusters and renumber: largest first, ties by their first row."""
    _, first, label, size = np.unique(
        label, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), np.int32)
    rank[np.lexsort((first, -size))] = np.arange(len(size), dtype=np.int32)
    label = rank[label]
    centres = _means(vectors, label, np.zeros((len(size), vectors.shape[1]), np.int16))
    score = np.einsum("ij,ij->i", vectors, centres[label], dtype=np.int32, casting="safe")
    return Clustering(label, centres, score)
