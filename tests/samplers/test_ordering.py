"""SortCache: stable whatever way they are found, and cached by content only."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.samplers import ks_distance, match_distribution, ordering
from thresher.samplers.ordering import (
    SortCache,
    cached,
    inverse_permutation,
    order_by,
    stable_order,
    use_cache,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MIN_ROWS", 0)


def test_order_by_is_lexsort() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 50, 300):
        major, minor = rng.integers(0, 5, n), rng.integers(0, 7, n)
        assert order_by(major, minor).tolist() == np.lexsort((minor, major)).tolist()
        assert order_by(major).tolist() == np.argsort(major, kind="stable").tolist()


def test_order_by_beyond_63_bits() -> None:
    rng = np.random.default_rng(1)
    major, minor = rng.integers(0, 2**40, 200) // 2**38, rng.integers(0, 2**40, 200)
    assert order_by(major, minor).tolist() == np.lexsort((minor, major)).tolist()


def test_order_of_numbers_is_lexsort() -> None:
    rng = np.random.default_rng(3)
    special = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1.5, -1.5]
    for dtype in (np.float32, np.float64):
        values = np.array(special, dtype)[rng.integers(0, len(special), 500)]
        assert stable_order(values).tolist() == np.lexsort((values,)).tolist()
        normal = rng.normal(size=500).astype(dtype)
        assert stable_order(normal).tolist() == np.argsort(normal, kind="stable").tolist()


@pytest.mark.parametrize("distinct", [True, False])
def test_order_with_ties_is_lexsort(distinct: bool) -> None:
    rng = np.random.default_rng(4)
    for n in (0, 1, 2, 400):
        ties = rng.integers(0, 2**64 if distinct else 5, n, dtype=np.uint64)
        for values in (
            rng.integers(0, 3, n),
            rng.integers(-3, 3, n),
            rng.integers(0, 2**64, n, dtype=np.uint64),
            rng.random(n) < 0.5,
            np.round(rng.normal(size=n), 1),
            np.round(rng.normal(size=n), 1).astype(np.float32),
            np.where(rng.random(n) < 0.3, np.nan, rng.integers(-1, 2, n) * 0.0),
        ):
            assert stable_order(values, ties).tolist() == np.lexsort((ties, values)).tolist()
        assert stable_order(ties).tolist() == np.argsort(ties, kind="stable").tolist()


def test_inverse_permutation() -> None:
    order = np.random.default_rng(2).permutation(40)
    assert inverse_permutation(order)[order].tolist() == list(range(40))


def test_orders_are_cached_by_content() -> None:
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return np.zeros(1)

    a = np.arange(5.0)
    for name, array in (
        ("x", a),
        ("x", a.copy()),
        ("x", a.astype(np.float32)),
        ("y", a),
        ("x", a[::-1]),
        ("x", a),
    ):
        cached(name, (array,), make)
    assert len(made) == 6  # nothing is cached outside of the block
    made.clear()
    with use_cache(SortCache()):
        for name, array in (
            ("x", a),
            ("x", a.copy()),
            ("x", a.astype(np.float32)),
            ("y", a),
            ("x", a[::-1]),
            ("x", a),
        ):
            cached(name, (array,), make)
        assert len(made) == 4
        a[0] = 9.0
        cached("x", (a,), make)
        assert len(made) == 5
    cached("x", (a,), make)
    assert len(made) == 6


def test_cache_size_is_limited() -> None:
    memory = SortCache()
    with use_cache(memory):
        for i in range(3 * ordering.MAX_ENTRIES):
            stable_order(np.arange(20) * i)
    assert len(memory._entries) == ordering.MAX_ENTRIES


def test_cache_does_not_change_results() -> None:
    rng = np.random.default_rng(3)
    memory = SortCache()
    for trial in range(60):
        n, decimals = int(rng.integers(1, 200)), int(rng.integers(0, 3))
        values, also = (np.round(rng.gamma(2, 1, n), decimals).astype(np.float32) for _ in range(2))
        ties = (
            rng.integers(0, 2**63, n).astype(np.uint64)
            if trial % 3
            else rng.integers(0, 4, n).astype(np.uint64)
        )
        by_name = {
            "bins": int(rng.integers(1, 20)),
            "preference": np.round(rng.normal(size=n), decimals) if trial % 4 else None,
            "also": also if trial % 2 else None,
            "balance": rng.integers(0, 3, n) if trial % 5 == 0 else None,
            "block": (1, 8)[trial % 2],
        }
        for k in rng.integers(0, n + 2, 3).tolist():
            plain = match_distribution(values, k, ties, **by_name)
            with use_cache(memory):
                again = match_distribution(values, k, ties, **by_name)
            assert (
                plain.rows.tolist() == again.rows.tolist()
                and plain.bin.tolist() == again.bin.tolist()
            )
            assert plain.preferred.tolist() == again.preferred.tolist()
        subset = rng.choice(values, max(n // 3, 1))
        with use_cache(memory):
            assert ks_distance(values, subset) == ks_distance(values, subset)


def test_ks_distance_is_the_largest_gap_at_any_value() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        pool, subset = (np.round(rng.normal(size=int(rng.integers(1, 60))), 1) for _ in range(2))
        gaps = [
            abs(float((pool <= x).mean()) - float((subset <= x).mean()))
            for x in np.r_[pool, subset]
        ]
        assert ks_distance(pool, subset) == pytest.approx(max(gaps), abs=1e-12)
