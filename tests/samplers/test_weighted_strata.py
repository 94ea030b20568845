"""Weighted strata: quotas, their limits, exhausted groups, and balance."""

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from thresher.samplers import weighted_strata
from thresher.types import seeded_ties


def some(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, 1.0, n), seeded_ties(np.sort(digests(n)), seed)


@pytest.mark.parametrize("k", [1, 7, 10, 33, 100, 999])
@pytest.mark.parametrize("groups", [1, 3, 10])
def test_alpha_zero_takes_the_same_from_every_group(k, groups):
    score, ties = some(1000)
    out = weighted_strata(score, k, ties, groups=groups, alpha=0.0)
    assert out.quota.sum() == k == len(out.rows) == len(set(out.rows.tolist()))
    assert out.quota.max() - out.quota.min() <= 1
    assert np.bincount(out.group[out.rows], minlength=groups).tolist() == out.quota.tolist()


@pytest.mark.parametrize("k", [1, 7, 99, 100, 101, 250, 999, 1000])
@pytest.mark.parametrize("alpha", [80.0, 1e4, 1e9])
def test_large_alpha_is_top_k(k, alpha):
    score, ties = some(1000)
    sources = np.arange(1000) % 4
    out = weighted_strata(score, k, ties, alpha=alpha, balance=sources)
    assert out.rows.tolist() == np.argsort(-score)[:k].tolist()
    assert out.quota.tolist() == np.bincount(out.group[out.rows], minlength=10).tolist()


def test_quotas_follow_the_exponential():
    score, ties = some(10_000)
    out = weighted_strata(score, 1000, ties, groups=5, alpha=2.0)
    weights = np.exp(2.0 * np.arange(5) / 4)
    assert np.abs(out.quota - 1000 * weights / weights.sum()).max() < 1
    assert (np.diff(out.quota) > 0).all()


def test_exhausted_group_passes_its_quota_on():
    score, ties = some(100)
    out = weighted_strata(score, 60, ties, groups=4, alpha=4.0)
    # weights 1, e^1.33, e^2.67, e^4 of 60: the last should get 44 and has 25; of the remaining 35
    # the third should get 26.6 and has 25 …
    assert out.quota.tolist() == [2, 8, 25, 25]
    everything = weighted_strata(score, 500, ties, groups=4, alpha=4.0)
    assert sorted(everything.rows.tolist()) == list(range(100))


def test_weights_below_the_smallest_number_still_order_the_groups():
    """100 groups, alpha 800: the lowest weight is e^-800 = 0 in binary; the groups are still filled
    from the top."""
    score, ties = some(1000)
    out = weighted_strata(score, 500, ties, groups=100, alpha=800.0)
    assert out.quota[:40].sum() == 0 and (out.quota[52:] == 10).all() and out.quota.sum() == 500


def test_sources_are_balanced_inside_a_group():
    score, ties = some(1000)
    source = np.r_[np.zeros(800, int), np.ones(150, int), np.full(50, 2)]
    out = weighted_strata(score, 200, ties, groups=5, alpha=0.0, balance=source)
    for g in range(5):
        there = np.bincount(source[out.group == g], minlength=3)
        taken = np.bincount(source[out.rows][out.group[out.rows] == g], minlength=3)
        assert taken.sum() == 40
        short = taken == there  # a source that gave all it had
        assert (
            taken[~short].max() - taken[~short].min() <= 1
            and taken[short].max(initial=0) <= taken[~short].max() + 1
        )
    plain = weighted_strata(score, 200, ties, groups=5, alpha=0.0)
    assert np.bincount(source[plain.rows])[0] > 130 > np.bincount(source[out.rows])[0]


def test_odd_rows_do_not_always_go_to_the_same_source():
    got = np.zeros(3, int)
    for seed in range(60):
        score, ties = some(60, seed)
        # one a group
        rows = weighted_strata(
            score, 10, ties, groups=10, alpha=0.0, balance=np.arange(60) % 3
        ).rows
        got += np.bincount(rows % 3, minlength=3)
    assert got.min() > 150  # 200 expected each, SD 12


def test_equal_scores_are_split_by_the_seed():
    seen = [
        set(weighted_strata(np.ones(50), 10, some(50, s)[1], alpha=50.0).rows.tolist())
        for s in range(3)
    ]
    assert seen[0] != seen[1] != seen[2]


def test_small_and_empty():
    assert weighted_strata(np.zeros(0), 5, np.zeros(0, np.uint64)).rows.tolist() == []
    assert weighted_strata(np.ones(3), 0, np.arange(3, dtype=np.uint64)).rows.tolist() == []
    assert len(weighted_strata(np.arange(3.0), 2, np.arange(3, dtype=np.uint64)).rows) == 2
