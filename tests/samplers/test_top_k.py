import numpy as np

from thresher.samplers import argsort_descending, top_k

#                  0    1    2    3    4    5    6    7    8    9
SCORE = np.array([5.0, 1.0, 5.0, 3.0, 9.0, 3.0, 3.0, 0.0, 5.0, 9.0])
TIES = np.array([40, 10, 20, 90, 70, 50, 60, 0, 30, 80], np.uint64)


def test_ten_rows_by_hand():
    assert argsort_descending(SCORE, TIES).tolist() == [4, 9, 2, 8, 0, 5, 6, 3, 1, 7]


def test_budgets_are_nested():
    for k in range(11):
        assert top_k(SCORE, k, TIES).tolist() == top_k(SCORE, 10, TIES).tolist()[:k]
    assert len(top_k(SCORE, 99, TIES)) == 10


def test_unsigned_and_bool_scores_do_not_wrap():
    assert top_k(np.array([0, 200, 3], np.uint8), 2, TIES[:3]).tolist() == [1, 2]
    assert top_k(np.array([-5, 2, -1], np.int32), 3, TIES[:3]).tolist() == [1, 2, 0]
    assert top_k(np.array([False, True, False]), 1, TIES[:3]).tolist() == [1]


def test_nan_is_last():
    assert top_k(np.array([np.nan, -9.0, 2.0]), 3, TIES[:3]).tolist() == [2, 1, 0]


def test_empty_input():
    assert top_k(np.zeros(0), 3, TIES[:0]).tolist() == []
    assert top_k(SCORE, 0, TIES).tolist() == []
