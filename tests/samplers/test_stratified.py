import numpy as np

from thresher.samplers import stratified

#                 0  1  2  3  4  5  6  7  8  9
GROUP = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
TIES = np.array([9, 3, 7, 1, 5, 8, 6, 2, 4, 0], np.uint64)


def test_ten_rows_by_hand():
    # proportional, 5 of 10: shares 3, 1.5, .5 -> 3, 2, 0 (equal remainders: the larger group)
    assert stratified(GROUP, 5, TIES).tolist() == [3, 7, 1, 8, 4]
    # equal: 2, 2, 1
    assert stratified(GROUP, 5, TIES, "equal").tolist() == [9, 3, 7, 1, 8]


def test_budget_of_all_and_zero():
    assert sorted(stratified(GROUP, 99, TIES).tolist()) == list(range(10))
    assert stratified(GROUP, 0, TIES).tolist() == []
    assert stratified(GROUP[:0], 4, TIES[:0]).tolist() == []


def test_unused_group_number():
    assert sorted(stratified(np.array([0, 5, 5]), 2, TIES[:3], "equal").tolist()) == [0, 1]
