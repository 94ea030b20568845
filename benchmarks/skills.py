"""Benchmark of skills on a million rows: time, memory and cluster quality against scikit-learn.

    OMP_NUM_THREADS=2 python benchmarks/skills.py [--rows 1000000] [--leaves N] [--peer]

The vectors are a mixture of 500 directions of uneven weight with noise, in 64 dimensions. Quality
is the mean cosine of a row with its cluster centre, and purity: the share of rows whose direction
is the most frequent one of their cluster. `--peer` also runs MiniBatchKMeans on the same vectors
(needs scikit-learn), with a batch size of 16,384 and its default number of passes.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from thresher.clusters import LEAF_ROWS, SCALE, grow_tree, unit_vectors


def world(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, float32 [n, 64], and the direction of each row, int [n]."""
    rng = np.random.default_rng(seed)
    weight = rng.gamma(0.7, 1, 500)
    kind = rng.choice(500, rows, p=weight / weight.sum())
    centres = rng.normal(size=(500, 64)).astype(np.float32)
    out = centres[kind]
    for start in range(0, rows, 1 << 16):
        out[start : start + (1 << 16)] += rng.normal(size=out[start : start + (1 << 16)].shape)
    return out / np.linalg.norm(out, axis=1, keepdims=True), kind


def quality(vectors: np.ndarray, label: np.ndarray, kind: np.ndarray) -> tuple[float, float]:
    """Mean cosine with the centre, and purity, 0 to 1."""
    k = int(label.max()) + 1
    total = np.stack([np.bincount(label, column, k) for column in vectors.T.astype(float)], 1)
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    cosine = sum(
        float((vectors[i : i + 4096] * total[label[i : i + 4096]]).sum())
        for i in range(0, len(vectors), 4096)
    )
    pairs, count = np.unique(label.astype(np.int64) * 500 + kind, return_counts=True)
    most = np.zeros(k, np.int64)
    np.maximum.at(most, pairs // 500, count)
    return cosine / len(vectors), float(most.sum() / len(vectors))


def report(name: str, seconds: float, label: np.ndarray, given: tuple[np.ndarray, ...]) -> None:
    cosine, purity = quality(given[0], label, given[1])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{name:18s} {int(label.max()) + 1:7,} clusters {seconds:7.1f} s  mean cosine {cosine:.4f}"
        f"  purity {purity:.3f}  peak {memory:.2f} GB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--leaves", type=int)
    parser.add_argument("--peer", action="store_true")
    a = parser.parse_args()
    leaves = a.leaves or max(a.rows // LEAF_ROWS, 1)
    given = world(a.rows)
    began = time.perf_counter()
    vectors = unit_vectors([given[0]])
    tree = grow_tree(vectors, np.zeros(a.rows, np.int64), leaves)
    report("thresher", time.perf_counter() - began, tree.leaf, given)
    print(f"{'':18s} {int(tree.parent.max()) + 1:7,} parents; a coordinate is stored as 1/{SCALE}")
    del vectors, tree
    if a.peer:
        from sklearn.cluster import MiniBatchKMeans

        began = time.perf_counter()
        peer = MiniBatchKMeans(leaves, batch_size=16384, n_init=1, random_state=0).fit(given[0])
        report("MiniBatchKMeans", time.perf_counter() - began, peer.labels_, given)


if __name__ == "__main__":
    main()
