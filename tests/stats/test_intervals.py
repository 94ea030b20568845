"""Coverage of the intervals in simulations with rows that share an image."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.stats.intervals import interval, macro_interval, t_quantile


def draw(
    rng: np.random.Generator, clusters: int, size: int, p: float, together: float
) -> tuple[np.ndarray, np.ndarray]:
    """`together`: chance that a row copies its image's luck (0 = independent rows)."""
    cluster = np.repeat(np.arange(clusters), rng.integers(1, 2 * size, clusters))
    luck = rng.random(clusters) < p
    own = rng.random(len(cluster)) < p
    return np.where(rng.random(len(cluster)) < together, luck[cluster], own), cluster


@pytest.mark.parametrize("together", [0.0, 0.7])
@pytest.mark.parametrize(("p", "clusters"), [(0.5, 200), (0.9, 200), (0.6, 25)])
def test_coverage(p: float, clusters: int, together: float) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(600):
        correct, cluster = draw(rng, clusters, 8, p, together)
        low, high = interval(correct, cluster)
        inside += low <= p <= high
    assert 0.925 <= inside / 600 <= 0.99


def test_ignoring_clusters_gives_too_narrow_intervals() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        correct, _ = draw(rng, 100, 8, 0.6, 0.8)
        low, high = interval(correct, np.arange(len(correct)))
        inside += low <= 0.6 <= high
    assert inside / 300 < 0.85


def test_macro_coverage() -> None:
    rng = np.random.default_rng(2)
    truth = np.array([0.2, 0.5, 0.9])
    inside = 0
    for _ in range(600):
        cluster = np.repeat(np.arange(150), 4)
        group = np.repeat(rng.choice(3, 150, p=[0.7, 0.2, 0.1]), 4)
        shared = rng.random(150)
        own = rng.random(600)
        luck = np.where(rng.random(600) < 0.5, shared[cluster], own)
        low, high = macro_interval(luck < truth[group], group, cluster)
        inside += low <= truth.mean() <= high
    assert 0.92 <= inside / 600 <= 0.99


def test_hand_computed() -> None:
    """8 of 10 independent rows: Wilson at Student's 2.262 for 9 degrees, (0.8 + 0.2558) / 1.5117 -+
    0.2537 by hand."""
    low, high = interval(np.array([1] * 8 + [0] * 2), np.arange(10))
    assert (low, high) == pytest.approx((0.4445, 0.9524), abs=5e-4)


def test_duplicate_images_add_no_information() -> None:
    """Ten rows a hundred times over, each set one cluster: as wide as ten rows."""
    ten = np.array([1] * 8 + [0] * 2)
    alone = interval(ten, np.arange(10))
    copied = interval(np.repeat(ten, 100), np.repeat(np.arange(10), 100))
    assert copied == pytest.approx(alone, abs=1e-9)


def test_extremes_have_width() -> None:
    for value in (0, 1):
        low, high = interval(np.full(40, value), np.repeat(np.arange(10), 4))
        assert high - low > 0.2 and low <= value <= high
    # one image is one row
    assert interval(np.ones(50), np.zeros(50)) == pytest.approx((0.206549, 1.0), abs=1e-5)
    assert interval(np.zeros(0), np.zeros(0)) == (0.0, 1.0)


def test_student() -> None:
    for degrees, value in (
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (9, 2.262),
        (30, 2.042),
        (499, 1.965),
    ):
        assert t_quantile(degrees) == pytest.approx(value, abs=0.001)
