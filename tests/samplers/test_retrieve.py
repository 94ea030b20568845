"""The allocation of rows over searches, by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.samplers import retrieve as module
from thresher.samplers.retrieve import Retrieved, retrieve


class Lists:
    """query -> [(row, score), …] best first; counts how deep it was asked."""

    def __init__(self, lists: Mapping[str, list[tuple[int, float]]]) -> None:
        self.lists = lists
        self.asked: list[tuple[str, int]] = []

    def ranked(self, query: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append((query, depth))
        some = self.lists[query][:depth]
        return np.array([r for r, _ in some], np.int64), np.array([s for _, s in some], np.float32)


def took(found: Retrieved) -> list[tuple[int, int, int]]:
    return list(zip(found.rows.tolist(), found.query.tolist(), found.rank.tolist(), strict=True))


TIES = np.arange(10, dtype=np.uint64)


def test_rounds_of_best_first() -> None:
    lists = Lists({"a": [(0, 9.0), (1, 8.0), (2, 1.0)], "b": [(3, 5.0), (4, 4.0)]})
    assert took(retrieve(lists, ["a", "b"], 4, TIES)) == [
        (0, 0, 0),
        (3, 1, 0),
        (1, 0, 1),
        (4, 1, 1),
    ]


def test_row_is_taken_once_by_the_better_search() -> None:
    # both prefer row 7; b fits better and gets it, so a takes row 1 in the same round
    lists = Lists({"a": [(7, 2.0), (1, 1.0)], "b": [(7, 3.0), (2, 0.5)]})
    assert took(retrieve(lists, ["a", "b"], 4, TIES)) == [(7, 1, 0), (1, 0, 1), (2, 1, 1)]


def test_search_whose_row_was_taken_is_requeued() -> None:
    # a's next row after losing 7 is worse than c's first: c goes before it
    lists = Lists({"a": [(7, 2.0), (1, 0.1)], "b": [(7, 3.0)], "c": [(5, 1.0)]})
    assert took(retrieve(lists, ["a", "b", "c"], 3, TIES)) == [(7, 1, 0), (5, 2, 0), (1, 0, 1)]


def test_duplicate_query_gets_twice_as_many_rows() -> None:
    lists = Lists(
        {"often": [(i, 5.0) for i in range(20)], "rare": [(100 + i, 9.0) for i in range(20)]}
    )
    found = retrieve(lists, ["often", "rare", "often"], 9, TIES)
    assert (found.rows >= 100).sum() == 3
    assert found.query.tolist() == [1, 0, 2] * 3
    assert [q for q, _ in lists.asked] == ["often", "rare"]  # equal searches share one list


def test_ties_use_the_hash() -> None:
    lists = Lists({"a": [(0, 1.0)], "b": [(1, 1.0)]})
    assert retrieve(lists, ["a", "b"], 1, np.array([5, 3], np.uint64)).rows.tolist() == [1]


def test_exhausted_lists_leave_the_budget_to_others() -> None:
    lists = Lists({"a": [(0, 1.0)], "b": [(1, 1.0), (2, 0.9), (3, 0.8)], "none": []})
    assert sorted(retrieve(lists, ["a", "b", "none"], 10, TIES).rows.tolist()) == [0, 1, 2, 3]
    assert len(retrieve(lists, [], 10, TIES).rows) == 0


def test_long_lists_are_extended_in_steps() -> None:
    n = module.FIRST_DEPTH * 3
    lists = Lists({"a": [(i, float(n - i)) for i in range(n)]})
    found = retrieve(lists, ["a"], n, TIES)
    assert found.rows.tolist() == list(range(n)) == found.rank.tolist()
    assert [d for _, d in lists.asked] == [module.FIRST_DEPTH, module.FIRST_DEPTH * module.DEEPER]
