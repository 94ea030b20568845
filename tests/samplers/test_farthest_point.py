"""Farthest-point sampling against the obvious loop."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.clusters.vectors import fixed_point
from thresher.samplers import farthest_points


def obvious(vectors: np.ndarray, k: int, ties: np.ndarray, first: int) -> list[int]:
    """Every step compares all rows with all rows taken, in whole numbers."""
    x = vectors.astype(np.int64)
    taken = [first]
    while len(taken) < min(k, len(x)):
        nearest = (x @ x[taken].T).max(axis=1)
        rest = [i for i in range(len(x)) if i not in taken]
        taken.append(min(rest, key=lambda i: (nearest[i], ties[i])))
    return taken


def some(n: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and ties."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, 8))
    vectors = rng.standard_normal((n, 8))
    if kind == "clusters":
        vectors = centres[rng.integers(0, 5, n)] + 0.2 * vectors
    if kind == "copies":
        vectors = vectors[rng.integers(0, max(n // 6, 1), n)]
    if kind == "zeros":
        vectors[::2] = 0
    return fixed_point(vectors), rng.permutation(n).astype(np.uint64)


@pytest.mark.parametrize("kind", ["scattered", "clusters", "copies", "zeros"])
@pytest.mark.parametrize("plain", [1, 3, 1000])
def test_it_takes_the_rows_of_the_obvious_loop(
    kind: str, plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thresher.samplers.farthest_point.PLAIN", plain)
    for n, k in ((1, 1), (2, 2), (60, 60), (150, 70)):
        vectors, ties = some(n, kind)
        rows = farthest_points(vectors, k, ties, first=n // 2)
        assert rows.dtype == np.int64
        assert rows.tolist() == obvious(vectors, k, ties, n // 2), (n, k)


@pytest.mark.parametrize("kind", ["scattered", "clusters", "copies"])
@pytest.mark.parametrize("active", [0.001, 0.05, 0.5])
def test_how_many_rows_are_compared_at_once_changes_nothing(
    kind: str, active: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, ties = some(2000, kind)
    monkeypatch.setattr("thresher.samplers.farthest_point.PLAIN", 2000)
    plain = farthest_points(vectors, 1200, ties, first=3)
    monkeypatch.setattr("thresher.samplers.farthest_point.PLAIN", 20)
    monkeypatch.setattr("thresher.samplers.farthest_point.ACTIVE", active)
    monkeypatch.setattr("thresher.samplers.farthest_point.BLOCK", 64)
    assert farthest_points(vectors, 1200, ties, first=3).tolist() == plain.tolist()


@pytest.mark.parametrize(("n", "k", "length"), [(5, 0, 0), (5, 9, 5), (5, -1, 0)])
def test_a_budget_of_nothing_or_of_more_than_all(n: int, k: int, length: int) -> None:
    vectors, ties = some(n, "scattered")
    rows = farthest_points(vectors, k, ties, first=2)
    assert len(rows) == len(set(rows.tolist())) == length


def test_the_order_of_the_rows_does_not_matter() -> None:
    vectors, ties = some(400, "clusters")
    rows = farthest_points(vectors, 300, ties, first=7)
    order = np.random.default_rng(1).permutation(400)
    again = farthest_points(vectors[order], 300, ties[order], int(np.flatnonzero(order == 7)[0]))
    assert order[again].tolist() == rows.tolist()
