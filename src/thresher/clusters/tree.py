"""Two levels of clusters: leaves, and parents as clusters of the leaves' centres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from thresher.clusters.kmeans import spherical_kmeans
from thresher.clusters.vectors import SCALE
from thresher.samplers.apportionment import largest_remainder

LEAF_ROWS = 30  # rows of a leaf on average, where the number of leaves is not given


@dataclass(frozen=True)
class Tree:
    """leaf, parent: int32 [n], from 0, groups in turn and the largest leaf of each first.

    typicality: float32 [n], the row's cosine with the centre of its leaf, -1 to 1.
    """

    leaf: np.ndarray
    parent: np.ndarray
    typicality: np.ndarray


def grow_tree(
    vectors: np.ndarray, group: np.ndarray, leaves: int | None = None, iterations: int = 15
) -> Tree:
    """Leaves that never hold rows of two groups, about √k parents over the k leaves of a group.

    Arguments:
        vectors: int16 [n, d] from `unit_vectors`.
        group: int [n], >= 0, such as whether a row has an image.
        leaves: of all groups together, divided in proportion to their rows, at least one each;
            None: one per `LEAF_ROWS` rows.
        iterations: of k-means, at most.
    """
    n = len(vectors)
    wanted = max(n // LEAF_ROWS, 1) if leaves is None else leaves
    size = np.bincount(group) if n else np.zeros(0, np.int64)
    share = np.maximum(largest_remainder(wanted, size, size), 1)
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
