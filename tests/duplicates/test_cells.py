"""Semantic duplicates in cells: the same rows as comparing all pairs where cells suffice, and in
any case only rows that are similar to a kept one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from thresher.duplicates import cells, cosines, semantic
from thresher.duplicates.embedding import PARTS
from thresher.signals.vectors import WIDTH, as_bytes, from_bytes


def planted(n: int, seed: int, copies: float = 0.1) -> dict[str, np.ndarray]:
    """Fields of `RowEmbedding` of n rows around 60 directions; some are near an earlier row, at
    cosines around 0.95."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 60, n)
    of = np.where(rng.random(n) < copies, rng.integers(0, np.maximum(np.arange(n), 1)), -1)
    noise = rng.uniform(0, 0.4, (n, 1)) / np.sqrt(WIDTH)
    out = {}
    for part in PARTS:
        base = rng.standard_normal((60, WIDTH))
        vectors = base[topic] + rng.standard_normal((n, WIDTH))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        moved = noise * rng.standard_normal((n, WIDTH))
        for i in np.flatnonzero(of >= 0).tolist():
            vectors[i] = vectors[of[i]] + moved[i]
        out[part] = as_bytes(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return out | {"form": np.full(n, b"one", "S8")}


@pytest.fixture
def in_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small cells and blocks, whatever the number of rows."""
    monkeypatch.setattr(semantic, "ALL_PAIRS", 0)
    monkeypatch.setattr(cells, "CELL_ROWS", 150)
    monkeypatch.setattr(cells, "FIRST_BLOCK", 64)


def dropped(groups: np.ndarray) -> set[int]:
    return set(np.flatnonzero(groups != np.arange(len(groups))).tolist())


def test_most_duplicates_are_found_and_nothing_else(in_cells: None) -> None:
    values, order = planted(3000, 0), np.random.default_rng(1).permutation(3000)
    found = semantic.semantic_groups(values, order)
    units = [semantic.centred(from_bytes(values[name])).astype(np.float64) for name in PARTS]
    rank = np.argsort(order)
    for row in dropped(found):
        kept = found[row]
        assert found[kept] == kept and rank[kept] < rank[row]
        assert min(float(u[row] @ u[kept]) for u in units) >= 0.95
    given = [semantic.centred(from_bytes(values[name])) for name in PARTS]
    all_pairs = order[semantic._first_kept(given, order, 0.95)][rank]
    assert len(dropped(all_pairs)) > 100
    assert len(dropped(found) & dropped(all_pairs)) >= 0.98 * len(dropped(all_pairs))


def test_looking_into_all_cells_is_comparing_all_pairs(
    in_cells: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, order = planted(1200, 2, copies=0.4), np.random.default_rng(3).permutation(1200)
    monkeypatch.setattr(cells, "PROBES", 1000)
    found = semantic.semantic_groups(values, order, 0.9)
    monkeypatch.setattr(semantic, "ALL_PAIRS", 1200)
    assert len(dropped(found)) > 100
    assert found.tolist() == semantic.semantic_groups(values, order, 0.9).tolist()


@pytest.mark.parametrize(
    ("name", "value"), [("FIRST_BLOCK", 1), ("BLOCK", 7), ("ROWS", 5), ("LEADERS", 3)]
)
def test_block_size_has_no_effect(
    in_cells: None, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    values, order = planted(700, 4), np.random.default_rng(5).permutation(700)
    whole = semantic.semantic_groups(values, order)
    monkeypatch.setattr(cells, name, value)
    assert semantic.semantic_groups(values, order).tolist() == whole.tolist()


def test_the_order_of_the_file_has_no_effect(in_cells: None) -> None:
    values, order = planted(900, 6), np.random.default_rng(7).permutation(900)
    found = semantic.semantic_groups(values, order)
    moved = np.random.default_rng(8).permutation(900)  # new row i is old row moved[i]
    place = np.argsort(moved)
    again = semantic.semantic_groups({k: v[moved] for k, v in values.items()}, place[order])
    assert moved[again][place].tolist() == found.tolist()


def test_a_large_group_keeps_its_first_row(in_cells: None) -> None:
    values = planted(2000, 9, copies=0)
    same = np.arange(2000) % 3 == 1
    for part in PARTS:
        values[part][same] = values[part][1]
    order = np.arange(2000)[::-1]
    found = semantic.semantic_groups(values, order)
    first = int(order[same[order]][0])
    assert (found[same] == first).all() and (found[~same] == np.flatnonzero(~same)).all()


def test_pairs_at_the_threshold_do_not_depend_on_what_they_are_computed_with() -> None:
    """In single precision the products are off by more than the distance to the threshold, by
    different amounts in matrices of different sizes."""
    rng = np.random.default_rng(10)
    a = rng.standard_normal((64, WIDTH))
    b = a + 0.3 * rng.standard_normal((64, WIDTH))
    a, b = ((v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16) for v in (a, b))
    for i in range(64):
        exact = math.fsum((a[i].astype(np.float64) * b[i].astype(np.float64)).tolist())
        for threshold, reached in ((exact - 1e-10, True), (exact + 1e-10, False)):
            whole = cosines.similar([a], [b], threshold)
            alone = cosines.similar([a[i : i + 1]], [b[i : i + 1]], threshold)
            assert whole[i, i] == alone[0, 0] == reached
            assert cosines.first_similar([a[i : i + 1]], [b], threshold)[0] == (
                i if reached else -1
            )
