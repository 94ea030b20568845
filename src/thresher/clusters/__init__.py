"""Clustering of vectors, and the characteristic words of clusters.

All decisive arithmetic is exact (`vectors`), so the same vectors in the same order give the same
clusters on any number of cores.
"""

from thresher.clusters.kmeans import Clustering, spherical_kmeans
from thresher.clusters.tree import LEAF_ROWS, Tree, grow_tree
from thresher.clusters.vectors import SCALE, unit_vectors
from thresher.clusters.words import distinctive_words

__all__ = [
    "LEAF_ROWS",
    "SCALE",
    "Clustering",
    "Tree",
    "distinctive_words",
    "grow_tree",
    "spherical_kmeans",
    "unit_vectors",
]
