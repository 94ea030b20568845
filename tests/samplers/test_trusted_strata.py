"""Trusted strata: ten rows by hand, the order in which rows are taken, and the limits."""

import numpy as np
import pytest

from thresher.samplers.trusted_strata import LEAST_ROWS, trusted_strata


def strata(loss, group, k, **settings):
    ties = np.arange(len(loss), dtype=np.uint64)
    return trusted_strata(np.array(loss, np.float32), np.array(group), k, ties, **settings)


LOSS = [0.9, 0.1, 0.4, 0.2, 2.0, 0.4, 1.0, 9.0, 3.0, 1.0]
GROUP = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("k", "quota", "rows"),
    [
        (0, [0, 0], []),
        (4, [1, 3], [1, 6, 7, 8]),
        (6, [2, 4], [1, 2, 6, 7, 8, 9]),
        (8, [4, 4], [1, 2, 3, 6, 7, 8, 9, 5]),
        (20, [6, 4], [1, 2, 3, 6, 7, 8, 9, 0, 4, 5]),
    ],
)
def test_ten_rows_by_hand(k, quota, rows):
    """
    row    0    1    2    3    4    5  |  6    7    8    9
    group  0    0    0    0    0    0  |  1    1    1    1     group 1 is too small: trusted whole
    loss   0.9  0.1  0.4  0.2  2.0  0.4|  1.0  9.0  3.0  1.0

    Group 0 by loss: 1 (0.1) 3 (0.2) 2 (0.4) | 5 (0.4) 0 (0.9) 4 (2.0): half is trusted, rows 2 and
    5 tie and the smaller tie wins. Median of 0.1 0.2 0.4 = 0.2: weight 6·√0.2 = 2.68. Group 1:
    median of 1 1 3 9 = 2: weight 4·√2 = 5.66. Shares 0.322 and 0.678.
    k = 4: 1.29 and 2.71, so 1 and 3. k = 6: 1.93 and 4.07, but group 1 has 4: 2 and 4. k = 8: all
    7 trusted rows and the untrusted row of the lowest loss, 5. k = 20: all, untrusted last.
    """
    out = strata(LOSS, GROUP, k)
    assert out.trusted.tolist() == [False, True, True, True, False, False, True, True, True, True]
    assert out.rank.tolist() == [4, 0, 2, 1, 5, 3, 0, 3, 2, 1]
    assert out.size.tolist() == [6, 4]
    assert out.quota.tolist() == quota
    assert out.rows.tolist() == rows


def test_settings_by_hand():
    """All trusted and no loss in the weight: in proportion to rows."""
    out = strata(LOSS, GROUP, 5, keep=1.0, power=0.0)
    assert out.trusted.all() and out.quota.tolist() == [3, 2]
    assert out.rows.tolist() == [0, 1, 2, 6, 7]
    allowed = np.ones(10, bool)
    allowed[[1, 7]] = False
    out = strata(LOSS, GROUP, 10, allowed=allowed)
    assert out.trusted.tolist() == [False, False, True, True, False, False, True, False, True, True]
    assert out.rows.tolist() == [2, 3, 6, 8, 9, 0, 1, 4, 5, 7]


def test_trusted_rows_are_sampled_by_the_seed():
    rng = np.random.default_rng(0)
    loss, group = rng.gamma(2, 1, 400), np.repeat(np.arange(4), 100)
    taken = []
    for seed in range(2):
        ties = np.random.default_rng(seed).permutation(400).astype(np.uint64)
        out = trusted_strata(loss, group, 60, ties)
        assert out.trusted[out.rows].all()
        assert (np.bincount(group[out.rows], minlength=4) == out.quota).all()
        for g in range(4):
            own = np.flatnonzero((group == g) & out.trusted)
            first = own[np.argsort(ties[own])][: out.quota[g]]
            assert set(out.rows[group[out.rows] == g].tolist()) == set(first.tolist())
        taken.append(set(out.rows.tolist()))
    assert taken[0] != taken[1]


def test_losses_of_zero_give_no_weight_but_can_fill():
    out = strata([0.0] * 8 + [1.0] * 8, [0] * 8 + [1] * 8, 4)
    assert out.quota.tolist() == [0, 4]
    assert strata([0.0] * 8 + [1.0] * 8, [0] * 8 + [1] * 8, 6).quota.tolist() == [2, 4]
    assert strata([0.0] * 8, [0] * 8, 6).quota.tolist() == [6]


@pytest.mark.parametrize("rows", range(1, 10))
def test_small_groups_are_trusted_whole(rows):
    out = strata(list(range(rows)), [0] * rows, rows)
    assert int(out.trusted.sum()) == (rows if rows < LEAST_ROWS else rows // 2)


@pytest.mark.parametrize("k", [0, 3])
def test_no_rows_and_empty_groups(k):
    assert strata([], np.zeros(0, np.int64), k).rows.tolist() == []
    out = strata([1.0, 2.0], [3, 3], k)
    assert len(out.rows) == min(k, 2) and len(out.quota) == 4


def test_medians_of_even_and_odd_groups():
    rng = np.random.default_rng(1)
    group = rng.integers(0, 30, 1000)
    loss = rng.gamma(1, 1, 1000)
    out = strata(loss, group, 100, keep=1.0, power=1.0)
    weight = np.array([(group == g).sum() * np.median(loss[group == g]) for g in range(30)])
    share = weight / weight.sum() * 100
    assert np.abs(out.quota - share).max() <= 1


def test_difficulty_may_be_another_number_than_the_loss():
    """Trusted by loss: rows 0 1 2 and 6 7 8. Median difficulty 9 and 1: weights 18 and 6."""
    out = strata(
        [1, 2, 3, 7, 8, 9] * 2,
        [0] * 6 + [1] * 6,
        4,
        difficulty=np.array([9.0, 1, 10, 0, 0, 0, 1, 5, 0, 90, 90, 90]),
    )
    assert out.trusted.tolist() == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3
    assert out.quota.tolist() == [3, 1]
