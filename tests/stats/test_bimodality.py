import numpy as np
import pytest

from thresher.stats.bimodality import BIMODAL_SEPARATION, separation


def slowly(values):
    """Every cut tried."""
    v = np.sort(values)
    cuts = [
        len(v[:k]) * len(v[k:]) / len(v) ** 2 * (v[:k].mean() - v[k:].mean()) ** 2
        for k in range(1, len(v))
    ]
    return max(cuts) / v.var()


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_independent(seed):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 7, 300)
    values = rng.gamma(1, 1, 300) + 100 * group
    found = separation(values, group, 2)
    assert found == pytest.approx([slowly(values[group == g]) for g in range(7)])


@pytest.mark.parametrize("wrong", [0.2, 0.35, 0.5])
def test_bimodal_and_unimodal_samples(wrong):
    rng = np.random.default_rng(0)
    one = rng.normal(2, 0.5, (200, 30))
    two = one + 3 * (rng.random((200, 30)) < wrong)
    group = np.repeat(np.arange(200), 30)
    assert np.mean(separation(one.ravel(), group) > BIMODAL_SEPARATION) < 0.05
    assert np.mean(separation(two.ravel(), group) > BIMODAL_SEPARATION) > 0.8


def test_small_groups_and_equal_values_are_unknown():
    found = separation(
        np.r_[np.arange(5.0), np.ones(20)], np.r_[np.zeros(5, int), np.ones(20, int)]
    )
    assert np.isnan(found).all()
    assert len(separation(np.zeros(0), np.zeros(0, int))) == 0
    assert np.isnan(separation(np.ones(2), np.array([3, 3]))).all()
