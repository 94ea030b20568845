"""Farthest-point sampling (greedy k-centre): each row is the least similar to those already taken.

Exact, but faster than the plain loop that compares one row with all others in every step. The first
rows are taken by that loop and divide the others into cells by their nearest taken row. A cell is
compared with later rows only when its farthest row, by the similarities known so far, is the
farthest of all: similarities only grow, so known ones are bounds. Many comparisons are then one
matrix product. Memory: the vectors in float32, no n x n matrix.
"""

from __future__ import annotations

import heapq

import numpy as np

PLAIN = 256  # rows taken by the plain loop, and so cells at most
_TAKEN = np.float32(np.inf)


def farthest_points(vectors: np.ndarray, k: int, ties: np.ndarray, first: int) -> np.ndarray:
    """Take `min(k, n)` rows, int64, in the order in which they are taken.

    Arguments:
        vectors: [n, d] of about equal lengths. Similarity is the dot product; in whole numbers with
            products below 2^24 (`clusters.unit_vectors`) it is exact, so that every machine takes
            the same rows.
        k: number of rows to take.
        ties: uint64 [n], distinct; of equally far rows the smallest is taken.
        first: the row to begin with.

    >>> line = np.array([[3, 0], [2, 2], [0, 3], [-3, 0]])
    >>> farthest_points(line, 3, np.arange(4, dtype=np.uint64), first=0).tolist()
    [0, 3, 2]
    """
    n = len(vectors)
    k = min(k, n)
    if k <= 0:
        return np.zeros(0, np.int64)
    x = np.asarray(vectors, np.float32)
    taken, nearest, cell = _plain(x, min(k, PLAIN), ties, first)
    if len(taken) == k:
        return np.array(taken, np.int64)
    centres = np.empty((k, x.shape[1]), np.float32)
    centres[: len(taken)] = x[taken]
    by_cell = np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell))[:-1])
    cells = [
        _Cell(rows, x[rows], ties[rows], nearest[rows], len(taken))
        for rows in by_cell
        if len(rows)  # a copy of an earlier row is nearest to none
    ]
    heap = [(*c.farthest(), i) for i, c in enumerate(cells)]
    heapq.heapify(heap)
    while len(taken) < k:
        *_, i = heap[0]
        c = cells[i]
        if c.seen == len(taken):
            row = c.take()
            centres[len(taken)] = x[row]
            taken.append(row)
        else:
            c.compare(centres[: len(taken)])
        heapq.heapreplace(heap, (*c.farthest(), i))
    return np.array(taken, np.int64)


def _plain(
    x: np.ndarray, k: int, ties: np.ndarray, first: int
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The first k rows; of every row its highest similarity with one of them, infinite for
    themselves, float32 [n], and which of them, int64 [n]."""
    nearest = np.full(len(x), -np.inf, np.float32)
    cell = np.zeros(len(x), np.int64)
    taken = [first]
    while True:
        similar = x @ x[taken[-1]]
        closer = similar > nearest
        nearest[closer], cell[closer] = similar[closer], len(taken) - 1
        nearest[taken] = _TAKEN
        if len(taken) == k:
            return taken, nearest, cell
        far = np.flatnonzero(nearest == nearest.min())
        taken.append(int(far[np.argmin(ties[far])]))


class _Cell:
    """Some rows, and how similar they are to those of the first `seen` taken rows."""

    def __init__(
        self, rows: np.ndarray, x: np.ndarray, ties: np.ndarray, nearest: np.ndarray, seen: int
    ) -> None:
        self.rows, self.x, self.ties, self.nearest, self.seen = rows, x, ties, nearest, seen
        self._find()

    def _find(self) -> None:
        far = np.flatnonzero(self.nearest == self.nearest.min())
        self.at = int(far[np.argmin(self.ties[far])])

    def farthest(self) -> tuple[float, int]:
        """The similarity and the tie of the cell's farthest row: the smallest comes first."""
        return float(self.nearest[self.at]), int(self.ties[self.at])

    def take(self) -> int:
        """Take the farthest row; its similarity to itself is not compared."""
        self.nearest[self.at] = _TAKEN
        row = int(self.rows[self.at])
        self._find()
        return row

    def compare(self, taken: np.ndarray) -> None:
        """Compare the rows with those of `taken` that they were not compared with."""
        new = taken[self.seen :]
        np.maximum(self.nearest, (self.x @ new.T).max(axis=1), out=self.nearest)
        self.seen = len(taken)
        self._find()
