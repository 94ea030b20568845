"""Spherical k-means: planted clusters are found, and the result depends only on the vectors."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from thresher.clusters import SCALE, Clustering, grow_tree, kmeans, spherical_kmeans, unit_vectors
from thresher.clusters.kmeans import nearest
from thresher.clusters.vectors import fixed_point


def planted(n=2000, kinds=12, seed=0, noise=0.3, width=32):
    """Unit vectors of `kinds` directions of uneven weight, and the direction of each."""
    rng = np.random.default_rng(seed)
    kind = np.minimum(rng.geometric(0.25, n) - 1, kinds - 1)
    vectors = rng.normal(size=(kinds, width))[kind] + noise * rng.normal(size=(n, width))
    return unit_vectors([vectors]), kind


def purity(label, kind):
    table = np.zeros((label.max() + 1, kind.max() + 1), int)
    np.add.at(table, (label, kind), 1)
    return table.max(axis=1).sum() / len(label)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [24, 60])
def test_planted_clusters_are_found(seed, k):
    vectors, kind = planted(seed=seed)
    found = spherical_kmeans(vectors, k)
    assert purity(found.label, kind) > 0.99
    size = np.bincount(found.label)
    assert (np.diff(size) <= 0).all() and size.min() > 0 and len(size) <= k


def test_rare_clusters_get_a_centre():
    """40 of 4,000 rows are of another kind: rows drawn evenly would often miss them for 20."""
    vectors, _ = planted(4000, 2, noise=0.2)
    rare = np.random.default_rng(3).choice(4000, 40, replace=False)
    other = np.zeros((40, vectors.shape[1]))
    other[:, 0] = 1
    vectors[rare] = fixed_point(other)
    found = spherical_kmeans(vectors, 20)
    assert len(set(found.label[rare].tolist())) == 1
    assert np.bincount(found.label)[found.label[rare[0]]] == 40


def test_result_is_a_fixed_point_of_plain_spherical_kmeans():
    vectors, _ = planted(1500, seed=4)
    found = spherical_kmeans(vectors, 30, iterations=200)
    units = vectors / SCALE
    centres = np.stack([units[found.label == c].sum(axis=0) for c in range(len(found.centres))])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    products = units @ centres.T
    best = products.max(axis=1)
    assert (best - products[np.arange(1500), found.label] < 1e-3).all()
    assert np.abs(found.score / SCALE**2 - products[np.arange(1500), found.label]).max() < 1e-3


@pytest.mark.parametrize(("n", "k"), [(0, 5), (1, 5), (3, 5), (5, 5), (40, 1)])
def test_edge_cases(n, k):
    vectors, _ = planted(max(n, 1), 5)
    found = spherical_kmeans(vectors[:n], k)
    assert len(found.label) == len(found.score) == n
    assert len(found.centres) <= min(n, k)
    assert sorted(set(found.label.tolist())) == list(range(len(found.centres)))


def test_equal_vectors_share_a_cluster_and_zeros_are_allowed():
    vectors, _ = planted(30, 5)
    vectors = np.repeat(vectors, 10, axis=0)
    vectors[:10] = 0
    found = spherical_kmeans(vectors, 100)
    assert len(found.centres) <= 30
    assert all(len(set(found.label[i : i + 10].tolist())) == 1 for i in range(0, 300, 10))
    assert (spherical_kmeans(np.zeros((9, 4), np.int16), 3).label == 0).all()


def in_parts(monkeypatch) -> Clustering:
    monkeypatch.setattr(kmeans, "_PRODUCTS", 997)
    return spherical_kmeans(planted()[0], 50)


def test_chunk_size_has_no_effect(monkeypatch):
    whole = spherical_kmeans(planted()[0], 50)
    parts = in_parts(monkeypatch)
    for a, b in zip(vars(whole).values(), vars(parts).values(), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("leaves", [100, 700])
def test_cells_are_nearly_as_good_as_comparing_all(monkeypatch, leaves):
    vectors, kind = planted(9000, 40, noise=0.5)
    monkeypatch.setattr(kmeans, "DIRECT", 10**12)
    direct = spherical_kmeans(vectors, leaves)
    monkeypatch.setattr(kmeans, "DIRECT", 50)
    monkeypatch.setattr(kmeans, "CELL_CLUSTERS", 40)
    cells = spherical_kmeans(vectors, leaves)
    assert abs(len(cells.centres) - leaves) <= leaves // 10
    assert cells.score.mean() > 0.98 * direct.score.mean()
    assert purity(cells.label, kind) > 0.98


def test_nearest_breaks_ties_by_index():
    centres = np.array([[0, SCALE], [SCALE, 0], [SCALE, 0]], np.int16)
    label, score = nearest(np.array([[SCALE, 0], [0, 0]], np.int16), centres)
    assert label.tolist() == [1, 0] and score.tolist() == [SCALE**2, 0]


CHILD = """
from tests.clusters.test_kmeans import digest_of_clusters
print(digest_of_clusters())
"""


def raw():
    rng = np.random.default_rng(7)
    kind = rng.integers(0, 30, 6000)
    return [
        (rng.normal(size=(30, 256))[kind] + rng.normal(size=(6000, 256))).astype(np.float16)
        for _ in range(2)
    ]


def digest_of_clusters():
    vectors = unit_vectors(raw())
    tree = grow_tree(vectors, np.arange(len(vectors)) % 2)
    found = vectors.tobytes() + tree.leaf.tobytes() + tree.parent.tobytes()
    return hashlib.sha256(found).hexdigest()


def test_result_does_not_depend_on_the_number_of_threads():
    """This process has one thread (`make test`) or one for each core; another has three or one."""
    threads = "3" if os.environ.get("OMP_NUM_THREADS") == "1" else "1"
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, threads)}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in [os.getcwd(), *sys.path] if p)
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest_of_clusters()


def test_leaves_are_within_a_group_and_parents_contain_whole_leaves():
    vectors, kind = planted(3000, 12)
    group = (np.arange(3000) % 10 == 0).astype(int)
    tree = grow_tree(vectors, group)
    pairs = np.unique(np.stack([tree.leaf, group]), axis=1)
    assert len(pairs[0]) == len(np.unique(tree.leaf)) == tree.leaf.max() + 1
    assert 85 <= tree.leaf.max() + 1 <= 100
    assert len(np.unique(np.stack([tree.leaf, tree.parent]), axis=1)[0]) == tree.leaf.max() + 1
    assert tree.parent.max() + 1 == len(np.unique(tree.parent)) <= 16
    assert purity(tree.leaf, kind) > 0.99
    assert tree.typicality.dtype == np.float32 and tree.typicality.max() <= 1.001


@pytest.mark.parametrize("n", [0, 1, 29, 61])
def test_few_rows_have_at_least_one_leaf(n):
    tree = grow_tree(planted(max(n, 1), 3)[0][:n], np.zeros(n, int))
    assert len(tree.leaf) == n
    assert len(np.unique(tree.leaf)) == min(n, max(n // 30, 1))


def test_the_number_of_leaves_can_be_given():
    vectors, _ = planted(2000, 12)
    assert grow_tree(vectors, np.zeros(2000, int), 7).leaf.max() == 6
    two = grow_tree(vectors, np.arange(2000) % 2, 1)
    assert two.leaf.max() == 1  # a group is never without a leaf
