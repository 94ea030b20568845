import time

import numpy as np
import pytest

from tests.methods.planted_columns import like_real
from thresher.samplers import ks_distance, match_distribution, median_random_ks, quantile_bins

#                   0    1    2    3    4    5    6    7    8    9
VALUES = np.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 0.5, 1.0])
TIES = np.array([9, 3, 7, 1, 5, 8, 6, 2, 4, 0], np.uint64)
WANT = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 0.0])


def test_quantile_bins_by_hand():
    assert quantile_bins(VALUES, 2).tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert quantile_bins(VALUES, 1).tolist() == [0] * 10
    assert quantile_bins(np.array([3.0, 1.0]), 20).tolist() == [1, 0]


def test_equal_values_share_a_bin_and_numbers_have_no_gaps():
    values = np.array([0.0] * 70 + [1.0] * 5 + [2.0] * 25)
    bins = quantile_bins(values, 20)
    assert set(bins.tolist()) == {0, 1, 2}
    assert all(len(set(bins[values == v].tolist())) == 1 for v in (0, 1, 2))


def test_ten_rows_by_hand_without_preference():
    # bins {0,2,4,6,8} and {7,5,3,1,9} by value; four inverse_permutation: two each; slots {0,2,4}
    # {6,8} and {7,5,3} {1,9}
    got = match_distribution(VALUES, 4, TIES, bins=2)
    assert got.rows.tolist() == [9, 3, 8, 4]  # smallest ties of each slot, in ties order
    assert not got.preferred.any()


def test_ten_rows_by_hand_with_preference():
    # of the four slots the 1st and the 3rd are preferred: the most wanted of {0,2,4} is 4, of
    # {7,5,3} is 7
    got = match_distribution(VALUES, 4, TIES, bins=2, preference=WANT)
    assert got.rows.tolist() == [7, 4, 9, 8]
    assert np.flatnonzero(got.preferred).tolist() == [4, 7]


def test_ten_rows_by_hand_with_blocks():
    # a block of two inverse_permutation is a whole bin here: the most wanted of each bin (8, 7),
    # then the smallest ties of what is left
    got = match_distribution(VALUES, 4, TIES, bins=2, preference=WANT, block=2)
    assert got.rows.tolist() == [8, 7, 9, 4]
    assert np.flatnonzero(got.preferred).tolist() == [7, 8]


def test_ten_rows_by_hand_balanced():
    # the lower bin has groups {0,2,4,6} and {8}, the upper {7,5,3,1} and {9}: one place for each
    group = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    assert match_distribution(VALUES, 4, TIES, bins=2, balance=group).rows.tolist() == [9, 3, 8, 4]
    big = match_distribution(VALUES, 6, TIES, bins=2, balance=group)
    assert {8, 9} <= set(big.rows.tolist()) and len(big.rows) == 6


def test_preferred_share_holds_with_one_row_per_bin():
    nll, one, _ = like_real(1000, 0)
    ties = np.random.default_rng(0).permutation(1000).astype(np.uint64)
    for share in (0.0, 0.3, 0.5, 1.0):
        got = match_distribution(one, 20, ties, bins=20, preference=nll, share=share)
        assert got.preferred.sum() == round(20 * share)


@pytest.mark.parametrize("also", [False, True])
@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 50])
def test_exactly_k_rows_in_edge_cases(n, balance, also):
    rng = np.random.default_rng(n)
    for trial in range(20):
        values = rng.integers(0, 4, n).astype(float) if trial % 2 else rng.random(n)
        ties = rng.permutation(n).astype(np.uint64)
        k = int(rng.integers(0, n + 2))
        got = match_distribution(
            values,
            k,
            ties,
            bins=int(rng.integers(1, 9)),
            preference=rng.random(n) if trial % 3 else None,
            share=float(rng.random()),
            also=rng.random(n) if also else None,
            balance=rng.integers(0, 3, n) if balance else None,
            block=int(rng.integers(1, 4)),
        )
        assert len(got.rows) == len(set(got.rows.tolist())) == min(k, n)
        assert set(np.flatnonzero(got.preferred)) <= set(got.rows.tolist())


def test_each_bin_keeps_its_share():
    _, one, _ = like_real(4000, 1)
    got = match_distribution(
        one, 777, np.random.default_rng(0).permutation(4000).astype(np.uint64), bins=20
    )
    kept = np.bincount(got.bin[got.rows])
    assert np.abs(kept - 777 * np.bincount(got.bin) / 4000).max() < 1


def test_preference_is_satisfied_and_the_distribution_matches():
    nll, one, _ = like_real(6000, 2)
    ties = np.random.default_rng(0).permutation(6000).astype(np.uint64)
    plain = match_distribution(one, 600, ties, block=8)
    wants = match_distribution(one, 600, ties, preference=nll - one, block=8)
    assert (nll - one)[wants.preferred].mean() > (nll - one)[plain.rows].mean() + 0.1
    assert ks_distance(one, one[wants.rows]) < median_random_ks(6000, 600) / 2


def test_ks_distance_by_hand():
    assert ks_distance(np.array([1.0, 2, 3, 4]), np.array([4.0, 1, 2, 3])) == 0
    assert ks_distance(np.array([1.0, 2, 3, 4]), np.array([4.0])) == 0.75
    assert ks_distance(np.array([1.0, 1, 1, 5]), np.array([1.0, 5])) == 0.25


def test_ks_of_random_is_the_median_of_random_subsets():
    rng = np.random.default_rng(0)
    pool = rng.random(3000)
    seen = np.median([ks_distance(pool, rng.choice(pool, 900, replace=False)) for _ in range(200)])
    assert abs(seen / median_random_ks(3000, 900) - 1) < 0.1


def test_a_million_rows():
    nll, one, _ = like_real(1_000_000, 3)
    ties = np.random.default_rng(0).permutation(1_000_000).astype(np.uint64)
    start = time.perf_counter()
    match_distribution(one, 300_000, ties, preference=nll - one, also=nll)
    assert time.perf_counter() - start < 60  # only a quadratic slip takes this long
