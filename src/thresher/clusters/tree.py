"""Two-level clustering: leaves, and parents that are clusters of the leaves' centres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from thresher.clusters.kmeans import spherical_kmeans
from thresher.clusters.vectors import SCALE
from thresher.samplers.apportionment import largest_remainder

LEAF_ROWS = 30  # average rows per leaf if the number of leaves is not given


@dataclass(frozen=True)
class Tree:
    """Result of `grow_tree`.

    leaf, parent: int32 [n], numbered from 0, group after group and the largest of each first.
    typicality: float32 [n], cosine of the row with the centre of its leaf, -1 to 1.
    """

    leaf: np.ndarray
    parent: np.ndarray
    typicality: np.ndarray


def grow_tree(
    vectors: np.ndarray, group: np.ndarray, leaves: int | None = None, iterations: int = 15
) -> Tree:
    """Cluster each group separately into leaves, and the k leaves of a group into about √k parents.

    Arguments:
        vectors: int16 [n, d] from `unit_vectors`.
        group: int [n], >= 0, such as whether a row has an image.
        leaves: total number of leaves, divided in proportion to the rows of the groups, at least
            one each; None: one per `LEAF_ROWS` rows.
        iterations: maximum number of k-means iterations.
    """
    n = len(vectors)
    total = max(n // LEAF_ROWS, 1) if leaves is None else leaves
    size = np.bincount(group) if n else np.zeros(0, np.int64)
    share = np.maximum(largest_remainder(total, size, size), 1)
    leaf, parent = np.zeros(n, np.int32), np.zeros(n, np.int32)
    score = np.zeros(n, np.int32)
    n_leaves = n_parents = 0
    for g in np.flatnonzero(size):
        rows = np.flatnonzero(group == g)
        fine = spherical_kmeans(vectors[rows], int(share[g]), iterations)
        k = len(fine.centres)
        coarse = spherical_kmeans(fine.centres, math.isqrt(k - 1) + 1, iterations)
        leaf[rows], score[rows] = n_leaves + fine.label, fine.score
        parent[rows] = n_parents + coarse.label[fine.label]
        n_leaves, n_parents = n_leaves + k, n_parents + len(coarse.centres)
    return Tree(leaf, parent, (score / SCALE**2).astype(np.float32))
