"""AUC of a score for wrong rows, over a pool and inside skills, against counted pairs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from benchmarks.auc import auc, auc_within


def counted(score: np.ndarray, wrong: np.ndarray, group: np.ndarray) -> float:
    pairs = [
        (score[i] > score[j]) + (score[i] == score[j]) / 2
        for i, j in product(np.flatnonzero(wrong), np.flatnonzero(~wrong))
        if group[i] == group[j]
    ]
    return float(np.mean(pairs))


def test_it_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    wrong, group = rng.random(80) < 0.3, rng.integers(0, 5, 80)
    score = np.round(rng.random(80) + 0.3 * wrong + group, 1)  # some are equal
    assert auc(score, wrong) == pytest.approx(counted(score, wrong, np.zeros(80)))
    assert auc_within(score, wrong, group) == pytest.approx(counted(score, wrong, group))
    assert auc_within(score, wrong, group) > auc(score, wrong)


def test_rows_without_a_score_are_left_out() -> None:
    score, wrong = np.array([0.0, 1.0, np.nan, np.nan]), np.array([False, True, True, False])
    assert auc(score, wrong) == 1


def test_nothing_to_compare() -> None:
    assert np.isnan(auc(np.arange(3.0), np.zeros(3, bool)))
    assert np.isnan(auc(np.zeros(0), np.zeros(0, bool)))
    both = np.array([True, False])
    assert np.isnan(auc_within(np.arange(2.0), both, np.array([0, 1])))
