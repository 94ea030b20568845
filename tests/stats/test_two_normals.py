"""Two-component mixtures in groups: found if there are two components, else nothing."""

import numpy as np
import pytest

from thresher.stats import two_normals
from thresher.stats.two_normals import LEAST_ROWS, upper_component


def two(rng, low, high, apart):
    return np.concatenate([rng.normal(0, 1, low), rng.normal(apart, 1, high)])


@pytest.mark.parametrize(("low", "high"), [(40, 20), (60, 4), (20, 40)])
@pytest.mark.parametrize("scale", [0.01, 1, 500])
def test_two_components_of_any_share_and_scale(low, high, scale):
    values = two(np.random.default_rng(0), low, high, 9) * scale + 3 * scale
    found = upper_component(values, np.zeros(low + high, int))
    assert (found[:low] < 0.1).all() and (found[low:] > 0.9).all()


@pytest.mark.parametrize("n", [30, 60, 300])
def test_single_component_is_not_split(n):
    rng = np.random.default_rng(n)
    group = np.repeat(np.arange(100), n)
    cut = np.bincount(group, upper_component(rng.normal(0, 1, 100 * n), group)) > 0
    assert cut.mean() <= 0.05


def test_groups_do_not_affect_each_other_nor_does_the_order():
    rng = np.random.default_rng(1)
    parts = [two(rng, 30, 10, 8), rng.normal(0, 1, 25), two(rng, 12, 12, 10) + 100]
    values = np.concatenate(parts)
    group = np.repeat([5, 0, 2], [40, 25, 24])
    together = upper_component(values, group)
    alone = np.concatenate([upper_component(p, np.zeros(len(p), int)) for p in parts])
    np.testing.assert_allclose(together, alone, atol=1e-9)
    shuffled = rng.permutation(len(values))
    np.testing.assert_allclose(
        upper_component(values[shuffled], group[shuffled]), together[shuffled], atol=1e-9
    )


def test_probability_is_non_decreasing():
    rng = np.random.default_rng(2)  # a narrow low hump inside a wide high one, and the reverse
    for low, high in (((0, 0.1), (6, 3)), ((0, 3), (9, 0.1))):
        values = np.concatenate([rng.normal(*low, 50), rng.normal(*high, 50)])
        found = upper_component(values, np.zeros(100, int))
        assert (np.diff(found[np.argsort(values)]) >= 0).all()
        assert found[values.argmin()] == 0


@pytest.mark.parametrize(
    ("values", "group"),
    [
        ([], []),
        ([1.0] * 20, [0] * 20),
        ([0.0] * (LEAST_ROWS - 2) + [9.0], [0] * (LEAST_ROWS - 1)),
        (np.arange(9.0), np.arange(9)),
    ],
)
def test_zero_for_degenerate_groups(values, group):
    assert upper_component(np.array(values), np.array(group, int)).tolist() == [0.0] * len(values)


def test_blocks_do_not_change_anything(monkeypatch):
    rng = np.random.default_rng(3)
    values, group = rng.gamma(2, 0.7, 3000), rng.integers(0, 90, 3000)
    whole = upper_component(values, group)
    monkeypatch.setattr(two_normals, "BLOCK", 50)
    assert (upper_component(values, group) == whole).all()
    assert (upper_component(values, group, order=np.lexsort((values, group))) == whole).all()
