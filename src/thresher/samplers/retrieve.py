"""Divide a budget among many searches: each round, every search takes its best free row.

Yao et al., arXiv:2412.15652, take the top K rows for every error; here the budget is given instead
of K. With one search per wrong row, a frequent kind of error gets more rows and every search gets
some. Within a round the search whose next row has the highest score comes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

FIRST_DEPTH = 64
DEEPER = 4


class Ranking(Protocol):
    def ranked(self, query: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, scores): int64 [m] best first and float32 [m], m <= depth; m < depth at the end of
        the list.

        Arguments:
            query: the text that rows are searched for.
            depth: maximum number of rows.
        """


@dataclass(frozen=True)
class Retrieved:
    """Result of `retrieve`: arrays [k] in the order in which rows were taken.

    `rank`: position in the search's own list, 0 = first.
    """

    rows: np.ndarray  # int64
    query: np.ndarray  # int64, index into the queries given
    rank: np.ndarray  # int32
    score: np.ndarray  # float32
    waiting: np.ndarray  # bool [queries]: got no row because the budget was spent first


def retrieve(ranking: Ranking, queries: Sequence[str], budget: int, ties: np.ndarray) -> Retrieved:
    """Take at most `budget` rows, each once; fewer if the lists end. Equal queries share one list.

    Arguments:
        ranking: the search engine.
        queries: one per search.
        budget: number of rows to take.
        ties: uint64 [queries], smallest first among equal scores.
    """
    lists = {q: _List(ranking, q) for q in dict.fromkeys(queries)}
    taken: dict[int, None] = {}
    picks: list[tuple[int, int, int, float]] = []
    active = list(range(len(queries)))
    while len(picks) < budget and active:
        heap = []
        for i in active:
            if (found := lists[queries[i]].peek(taken)) is not None:
                heap.append((-found[1], int(ties[i]), i))
        active = [i for _, _, i in heap]
        heapq.heapify(heap)
        while heap and len(picks) < budget:
            key, tie, i = heapq.heappop(heap)
            found = lists[queries[i]].peek(taken)
            if found is None:
                continue
            row, score, rank = found
            if -score > key:  # its row was taken: requeue with the next one
                heapq.heappush(heap, (-score, tie, i))
                continue
            taken[row] = None
            picks.append((row, i, rank, score))
        active.sort()
    table = np.array([(r, q, k) for r, q, k, _ in picks], np.int64).reshape(-1, 3)
    scores = np.array([s for *_, s in picks], np.float32)
    unreached = np.zeros(len(queries), bool)
    for i in np.setdiff1d(np.arange(len(queries)), table[:, 1]).tolist():
        unreached[i] = lists[queries[i]].peek(taken) is not None
    return Retrieved(table[:, 0], table[:, 1], table[:, 2].astype(np.int32), scores, unreached)


class _List:
    """A search's ranked list, extended as it is used up; rows taken by any search are skipped."""

    def __init__(self, ranking: Ranking, query: str) -> None:
        self.ranking, self.query = ranking, query
        self.depth = FIRST_DEPTH
        self.rows, self.scores = ranking.ranked(query, self.depth)
        self.position = 0

    def peek(self, taken: dict[int, None]) -> tuple[int, float, int] | None:
        """The best free row as (row, score, rank), or None at the end of the list."""
        while True:
            while self.position < len(self.rows):
                row = int(self.rows[self.position])
                if row not in taken:
                    return row, float(self.scores[self.position]), self.position
                self.position += 1
            if len(self.rows) < self.depth:
                return None
            self.depth *= DEEPER
            self.rows, self.scores = self.ranking.ranked(self.query, self.depth)
