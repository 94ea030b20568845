"""Farthest-point sampling (greedy k-centre): each row is the least similar to those already taken.

Exact, but faster than the plain loop that compares one row with all others in every step. The first
rows are taken by that loop and divide the others into cells by their nearest taken row. What is
known of a row is its highest similarity with the taken rows that it was compared with: a lower
bound, since similarities only grow. So only the rows of the lowest bounds are compared with all
taken rows, and the farthest of them are taken until the lowest bound of the others is reached;
within a cell, rows are compared only when one of them has the lowest bound of all. Many comparisons
are then one matrix product. Equal rows are compared once. Memory: the vectors in float32, no n x n
matrix.

Comparisons are about half of rows x taken rows, and at least k^2 / 2, since a row is compared with
those taken before it: the time grows with the square of the rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

PLAIN = 256  # different rows taken by the plain loop, and so cells at most
ACTIVE = 0.1  # share of the rows with the lowest bounds, which are compared with all taken rows
BLOCK = 4096  # rows and taken rows of one matrix product
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
    k = min(k, len(vectors))
    if k <= 0:
        return np.zeros(0, np.int64)
    state = _State(vectors, k, ties, first)
    state.take_plainly(int(state.group[first]))
    while len(state.taken) < k:
        state.take_active()
    return np.array(state.taken, np.int64)


class _State:
    """Groups of equal rows, and how similar they are to the rows that were taken.

    Arguments:
        vectors, k, ties, first: as of `farthest_points`; k >= 1.
    """

    def __init__(self, vectors: np.ndarray, k: int, ties: np.ndarray, first: int) -> None:
        whole = np.ascontiguousarray(vectors)
        as_bytes = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1])))[:, 0]
        _, index, self.group = np.unique(as_bytes, return_index=True, return_inverse=True)
        self.x = np.asarray(whole[index], np.float32)  # [g, d]
        # the rows of each group by tie, `first` before them: members[start[g] : start[g + 1]]
        self.members = np.lexsort((ties, np.arange(len(ties)) != first, self.group))
        self.start = np.append(0, np.cumsum(np.bincount(self.group)))
        self.next = self.start[:-1].copy()  # [g]: the next member to take
        self.ties = ties
        self.tie = ties[self.members[self.next]]  # uint64 [g], of the next member
        self.nearest = np.full(len(self.x), -np.inf, np.float32)  # [g], the known bounds
        self.cell = np.zeros(len(self.x), np.int64)  # [g]
        self.seen = np.zeros(len(self.x), np.int64)  # [g]: taken groups that it was compared with
        self.k = k
        self.taken: list[int] = []  # rows
        self.centres = np.empty((min(k, len(self.x)), self.x.shape[1]), np.float32)
        self.found = 0  # taken groups, the rows of `centres` that are filled

    def take(self, group: int) -> bool:
        """Take the next row of a group. Returns whether the group has further rows."""
        at = self.next[group]
        if at == self.start[group]:
            self.centres[self.found] = self.x[group]
            self.found += 1
        self.taken.append(int(self.members[at]))
        self.next[group] = at + 1
        if at + 1 == self.start[group + 1]:
            self.nearest[group] = _TAKEN
            return False
        self.tie[group] = self.ties[self.members[at + 1]]
        return True

    def take_plainly(self, group: int) -> None:
        """Take the first rows, one after the other, until `PLAIN` groups are found; `group`: of the
        first one."""
        while True:
            before = self.found
            self.take(group)
            if self.found > before:
                similar = self.x @ self.x[group]
                closer = similar > self.nearest
                self.nearest[closer], self.cell[closer] = similar[closer], before
            if len(self.taken) == self.k or self.found == PLAIN:
                self.seen[:] = self.found
                return
            far = np.flatnonzero(self.nearest == self.nearest.min())
            group = int(far[np.argmin(self.tie[far])])

    def take_active(self) -> None:
        """Compare the rows of the lowest bounds with all that are taken, and take those of them
        that are farther than all others."""
        m = int(ACTIVE * len(self.x))
        limit = np.partition(self.nearest, m)[m]
        if limit == _TAKEN:  # fewer are left
            limit = self.nearest[self.nearest < _TAKEN].max()
        active = np.flatnonzero(self.nearest <= limit)
        self._compare(active)
        active = active[self.nearest[active] <= limit]
        cells = [_Cell(self, groups) for groups in self._by_cell(active)]
        heap = [(*c.farthest(), i) for i, c in enumerate(cells)]
        heapq.heapify(heap)
        while heap and heap[0][0] <= limit and len(self.taken) < self.k:
            *_, i = heap[0]
            c = cells[i]
            if c.seen == self.found:
                c.take()
            else:
                c.compare()
            heapq.heapreplace(heap, (*c.farthest(), i))
        for c in cells:
            c.store()

    def _by_cell(self, groups: np.ndarray) -> Iterator[np.ndarray]:
        order = groups[np.argsort(self.cell[groups], kind="stable")]
        if len(order):
            yield from np.split(order, np.flatnonzero(np.diff(self.cell[order])) + 1)

    def _compare(self, groups: np.ndarray) -> None:
        """Compare groups with all taken ones that they were not compared with."""
        since = self.seen[groups]
        for seen in np.unique(since).tolist():
            alike = groups[since == seen]
            for start in range(0, len(alike), BLOCK):
                some = alike[start : start + BLOCK]
                self.nearest[some] = _nearest(
                    self.x[some], self.centres[seen : self.found], self.nearest[some]
                )
        self.seen[groups] = self.found


class _Cell:
    """Groups of one cell that are compared together. `seen`: taken groups that they were compared
    with.

    Arguments:
        state: of all groups.
        groups: of this cell, compared with the same taken groups.
    """

    def __init__(self, state: _State, groups: np.ndarray) -> None:
        self.state, self.groups = state, groups
        self.x, self.nearest = state.x[groups], state.nearest[groups]
        self.tie = state.tie[groups]
        self.seen = state.found
        self._find()

    def _find(self) -> None:
        far = np.flatnonzero(self.nearest == self.nearest.min())
        self.at = int(far[np.argmin(self.tie[far])])

    def farthest(self) -> tuple[float, int]:
        """The similarity and the tie of the cell's farthest row: the smallest comes first."""
        return float(self.nearest[self.at]), int(self.tie[self.at])

    def take(self) -> None:
        """Take the farthest row; its similarity to itself is not compared."""
        group = int(self.groups[self.at])
        if self.state.take(group):
            self.tie[self.at] = self.state.tie[group]
        else:
            self.nearest[self.at] = _TAKEN
        self._find()

    def compare(self) -> None:
        """Compare the groups with the taken ones that they were not compared with."""
        new = self.state.centres[self.seen : self.state.found]
        self.nearest = _nearest(self.x, new, self.nearest)
        self.seen = self.state.found
        self._find()

    def store(self) -> None:
        """Write what is known of the groups into the state."""
        self.state.nearest[self.groups], self.state.seen[self.groups] = self.nearest, self.seen


def _nearest(x: np.ndarray, centres: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The highest similarity of each row of x [m, d] with one of `centres` [c, d] or, if that is
    higher, what is known, float32 [m]."""
    best = known
    for start in range(0, len(centres), BLOCK):
        best = np.maximum(best, (x @ centres[start : start + BLOCK].T).max(axis=1))
    return best
