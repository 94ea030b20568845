"""A budget over many searches: in rounds each search takes its best row that is still free, until the budget is met.

Yao et al., arXiv:2412.15652, take the top K rows of every error; here K is not given but the budget is. One search a wrong row, so
a gap that occurs often gets more rows, and none is starved. Inside a round the search with the best next row comes first.
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
        """int64 [k] rows best first and float32 [k] scores, k <= depth; fewer than depth: there are no more."""


@dataclass(frozen=True)
class Retrieved:
    """[k] each, in the order taken. `rank`: place in the search's own list, 0 = first."""

    rows: np.ndarray  # int64
    query: np.ndarray  # int64, index into the queries given
    rank: np.ndarray  # int32
    score: np.ndarray  # float32
    waiting: np.ndarray  # bool [queries]: got nothing although a row was free, since the budget was met before its turn


def retrieve(ranking: Ranking, queries: Sequence[str], budget: int, ties: np.ndarray) -> Retrieved:
    """At most `budget` rows, each once. Equal queries share one list. `ties` [queries]: who is first among equals.

    Fewer than `budget` where the lists end.
    """
    lists = {q: _List(ranking, q) for q in dict.fromkeys(queries)}
    taken: dict[int, None] = {}
    out: list[tuple[int, int, int, float]] = []
    alive = list(range(len(queries)))
    while len(out) < budget and alive:
        waiting = []
        for i in alive:
            if (found := lists[queries[i]].peek(taken)) is not None:
                waiting.append((-found[1], int(ties[i]), i))
        alive = [i for _, _, i in waiting]
        heapq.heapify(waiting)
        while waiting and len(out) < budget:
            key, tie, i = heapq.heappop(waiting)
            found = lists[queries[i]].peek(taken)
            if found is None:
                continue
            row, score, rank = found
            if -score > key:  # its row was taken meanwhile: it waits for its turn with the next one
                heapq.heappush(waiting, (-score, tie, i))
                continue
            taken[row] = None
            out.append((row, i, rank, score))
        alive.sort()
    table = np.array([(r, q, k) for r, q, k, _ in out], np.int64).reshape(-1, 3)
    scores = np.array([s for *_, s in out], np.float32)
    unreached = np.zeros(len(queries), bool)
    for i in np.setdiff1d(np.arange(len(queries)), table[:, 1]).tolist():
        unreached[i] = lists[queries[i]].peek(taken) is not None
    return Retrieved(table[:, 0], table[:, 1], table[:, 2].astype(np.int32), scores, unreached)


class _List:
    """A search's list, made deeper as it is used up; rows that anybody took are passed over for good."""

    def __init__(self, ranking: Ranking, query: str) -> None:
        self.ranking, self.query = ranking, query
        self.depth = FIRST_DEPTH
        self.rows, self.scores = ranking.ranked(query, self.depth)
        self.at = 0

    def peek(self, taken: dict[int, None]) -> tuple[int, float, int] | None:
        """Its best free row: (row, score, rank); None: the list has ended."""
        while True:
            while self.at < len(self.rows):
                row = int(self.rows[self.at])
                if row not in taken:
                    return row, float(self.scores[self.at]), self.at
                self.at += 1
            if len(self.rows) < self.depth:
                return None
            self.depth *= DEEPER
            self.rows, self.scores = self.ranking.ranked(self.query, self.depth)
