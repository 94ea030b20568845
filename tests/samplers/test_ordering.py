"""Orderings are stable, in whatever way they are computed."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.samplers import ks_distance
from thresher.samplers.ordering import inverse_permutation, order_by


def test_order_by_is_lexsort() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 50, 300):
        major, minor = rng.integers(0, 5, n), rng.integers(0, 7, n)
        assert order_by(major, minor).tolist() == np.lexsort((minor, major)).tolist()
        assert order_by(major).tolist() == np.argsort(major, kind="stable").tolist()


def test_order_by_holds_where_it_does_not_fit_63_bits() -> None:
    rng = np.random.default_rng(1)
    major, minor = rng.integers(0, 2**40, 200) // 2**38, rng.integers(0, 2**40, 200)
    assert order_by(major, minor).tolist() == np.lexsort((minor, major)).tolist()


def test_inverse_permutation() -> None:
    order = np.random.default_rng(2).permutation(40)
    assert inverse_permutation(order)[order].tolist() == list(range(40))


def test_ks_distance_is_the_largest_gap_at_any_value() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        pool, subset = (np.round(rng.normal(size=int(rng.integers(1, 60))), 1) for _ in range(2))
        gaps = [
            abs(float((pool <= x).mean()) - float((subset <= x).mean()))
            for x in np.r_[pool, subset]
        ]
        assert ks_distance(pool, subset) == pytest.approx(max(gaps), abs=1e-12)
