import numpy as np
import pytest

from thresher.samplers import cumulative_apportionment, largest_remainder, water_fill


def quota(total, weights, capacity):
    return largest_remainder(total, np.array(weights, float), np.array(capacity)).tolist()


def test_largest_remainder_by_hand():
    # shares of 10: 4.7 3.1 2.2 -> 4 3 2, and the remaining one goes to .7
    assert quota(10, [47, 31, 22], [99, 99, 99]) == [5, 3, 2]


def test_equal_remainders_prefer_larger_weight_then_lower_index():
    assert quota(3, [1, 1, 1, 1], [9, 9, 9, 9]) == [1, 1, 1, 0]
    assert quota(4, [1, 3, 1, 3], [9, 9, 9, 9]) == [0, 2, 0, 2]  # .5 1.5 .5 1.5


def test_excess_of_a_group_is_passed_on():
    assert quota(100, [50, 25, 25], [10, 99, 99]) == [10, 45, 45]
    assert quota(10, [1, 1, 1], [0, 1, 99]) == [0, 1, 9]


def test_weight_zero_groups_are_used_last():
    assert quota(5, [0, 1], [9, 9]) == [0, 5]
    assert quota(5, [0, 1], [9, 3]) == [2, 3]
    assert quota(6, [0, 0, 1], [4, 8, 0]) == [2, 4, 0]


def test_total_above_capacity_and_zero():
    assert quota(99, [1, 2], [3, 4]) == [3, 4]
    assert quota(0, [1, 2], [3, 4]) == [0, 0]
    assert quota(5, [], []) == []


def test_water_fill_by_hand():
    assert water_fill(12, np.array([2, 3, 100, 100])).tolist() == [2, 3, 4, 3]


@pytest.mark.parametrize("seed", range(50))
def test_sum_and_capacity_always_hold(seed):
    rng = np.random.default_rng(seed)
    g = int(rng.integers(1, 12))
    capacity = rng.integers(0, 50, g)
    weights = rng.random(g) * rng.integers(0, 2, g)
    total = int(rng.integers(0, 400))
    out = largest_remainder(total, weights, capacity)
    assert out.sum() == min(total, capacity.sum())
    assert (out >= 0).all() and (out <= capacity).all()


def test_proportional_to_size_is_within_one_of_exact():
    size = np.array([7, 1, 993, 12, 4000])
    for k in (1, 10, 333, 5012):
        assert np.abs(largest_remainder(k, size, size) - k * size / size.sum()).max() < 1


def test_cumulative_apportionment_keeps_running_totals_within_half_a_row():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = rng.integers(0, 40, int(rng.integers(1, 30)))
        if not size.sum():
            continue
        k = int(rng.integers(0, size.sum() + 1))
        out = cumulative_apportionment(k, size)
        assert out.sum() == k and (out >= 0).all() and (out <= size).all()
        assert np.abs(np.cumsum(out) - np.cumsum(size) * k / size.sum()).max() <= 0.5


def test_cumulative_apportionment_spreads_few_rows_over_many_bins():
    assert cumulative_apportionment(10, np.full(20, 5)).tolist() == [1, 0] * 10
    assert cumulative_apportionment(5, np.zeros(0, int)).tolist() == []
