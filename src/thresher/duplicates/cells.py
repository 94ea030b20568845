"""Semantic duplicates of a large pool: rows are compared within cells of similar rows only.

Cells are the clusters of a spherical k-means in 64 principal components. A kept row belongs to its
nearest cell; a later row is compared with the kept rows of its `PROBES` nearest cells. All pairs in
these cells are compared as in a small pool, and a dropped row is always similar to a kept one; what
may be missed is a pair whose cells differ (recall: docs/results/semantic.md). A cell has some
`CELL_ROWS` rows, so the work grows with the number of rows.

Cells are computed in exact arithmetic (`clusters`), and depend on the rows in their given order
only: the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from thresher.clusters.kmeans import spherical_kmeans
from thresher.clusters.vectors import unit_vectors
from thresher.duplicates.cosines import first_similar, similar

CELL_ROWS = 2048  # approximate rows per cell
PROBES = 4  # cells that a row is compared with
SAMPLE_ROWS = 64  # rows per cell from which the cells are computed
# Rows per block, from the first to the largest. Blocks double: after m rows, any group of similar
# rows with a share of more than about 1/m of the pool has a kept row, so that few rows of the next
# block are similar to each other only.
FIRST_BLOCK, BLOCK = 1024, 1 << 16
ROWS, LEADERS = 1024, 8192  # compared at once
_PRODUCTS = 1 << 22  # scores of cells computed at once


def first_kept_in_cells(
    parts: list[np.ndarray], members: np.ndarray, threshold: float
) -> np.ndarray:
    """Index among `members` of the first kept row similar to each, int64 [k]; its own if there is
    none.

    Arguments:
        parts: unit vectors, float16 [m, w] each.
        members: int64 [k], rows of `parts`, in the order in which rows are kept.
        threshold: minimum of the cosines.
    """
    k = len(members)
    cells = nearest_cells(parts, members)
    out = np.arange(k)
    # of each cell, indices of members that are kept, ascending
    leaders = [np.zeros(0, np.int64) for _ in range(int(cells.max()) + 1)]
    start, size = 0, FIRST_BLOCK
    while start < k:
        block = np.arange(start, min(start + size, k))
        first = _first_leader(parts, members, block, cells, leaders, threshold)
        matched = first < k
        out[block[matched]] = first[matched]
        rest = block[~matched]
        pairs = _pairs_within(parts, members, rest, cells, threshold)
        kept = _keep_first(out, rest, pairs)
        for cell, rows in _by_cell(cells[kept, :1]):
            leaders[cell] = np.concatenate([leaders[cell], kept[rows]])
        start, size = start + len(block), min(2 * size, BLOCK)
    return out


def nearest_cells(parts: list[np.ndarray], members: np.ndarray) -> np.ndarray:
    """The `PROBES` nearest cells of each row, nearest first, int32 [k, <= PROBES].

    Arguments:
        parts: unit vectors, float16 [m, w] each.
        members: int64 [k], rows of `parts`.
    """
    k = len(members)
    vectors = unit_vectors([p[members, :-1] for p in parts])  # without the coordinate of blanks
    count = max(-(-k // CELL_ROWS), 1)
    sample = np.arange(min(SAMPLE_ROWS * count, k)) * k // min(SAMPLE_ROWS * count, k)
    centres = spherical_kmeans(vectors[sample], count, iterations=8).centres
    table = np.ascontiguousarray(centres.T, np.float32)
    out = np.empty((k, min(PROBES, len(centres))), np.int32)
    step = max(_PRODUCTS // len(centres), 1)
    for start in range(0, k, step):
        products = vectors[start : start + step].astype(np.float32) @ table
        for i in range(out.shape[1]):
            best = products.argmax(axis=1)  # the first of equal ones
            out[start : start + step, i] = best
            products[np.arange(len(best)), best] = -np.inf
    return out


def _by_cell(cells: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(cell, indices of the rows that name it, ascending) of each cell in int32 [r, p]."""
    flat = cells.reshape(-1)
    order = np.argsort(flat, kind="stable")
    found, start = np.unique(flat[order], return_index=True)
    for cell, rows in zip(found.tolist(), np.split(order, start[1:]), strict=True):
        yield cell, rows // cells.shape[1]


def _first_leader(
    parts: list[np.ndarray],
    members: np.ndarray,
    block: np.ndarray,
    cells: np.ndarray,
    leaders: list[np.ndarray],
    threshold: float,
) -> np.ndarray:
    """The first leader similar to each row of the block, int64 [b]; k if there is none.

    `block`: int64 [b], indices of members; `cells`: int32 [k, p].
    """
    out = np.full(len(block), len(members))
    for cell, rows in _by_cell(cells[block]):
        for offset in range(0, len(leaders[cell]), LEADERS):
            some = leaders[cell][offset : offset + LEADERS]
            theirs = [p[members[some]].astype(np.float32) for p in parts]
            for begin in range(0, len(rows), ROWS):
                mine = rows[begin : begin + ROWS]
                first = first_similar([p[members[block[mine]]] for p in parts], theirs, threshold)
                found = first >= 0
                out[mine[found]] = np.minimum(out[mine[found]], some[first[found]])
    return out


def _pairs_within(
    parts: list[np.ndarray],
    members: np.ndarray,
    rows: np.ndarray,
    cells: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Pairs of similar rows, int64 [e, 2]: positions in `rows` of the later and of the earlier one,
    ordered by both.

    `rows`: int64 [r], indices of members, ascending; `cells`: int32 [k, p].
    """
    own = dict(_by_cell(cells[rows, :1]))
    pairs = [np.zeros((0, 2), np.int64)]
    for cell, asking in _by_cell(cells[rows]):
        stored = own.get(cell, np.zeros(0, np.int64))
        for offset in range(0, len(stored), ROWS):
            some = stored[offset : offset + ROWS]
            theirs = [p[members[rows[some]]].astype(np.float32) for p in parts]
            later = asking[np.searchsorted(asking, some[0], side="right") :]
            for begin in range(0, len(later), ROWS):
                mine = later[begin : begin + ROWS]
                near = similar([p[members[rows[mine]]] for p in parts], theirs, threshold)
                i, j = np.nonzero(near & (mine[:, None] > some[None, :]))
                pairs.append(np.stack([mine[i], some[j]], axis=1))
    found = np.concatenate(pairs)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _keep_first(out: np.ndarray, rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Give each row of `rows` that is similar to an earlier kept one its first in `out`; the rows
    that are kept, int64, ascending.

    `pairs`: as `_pairs_within` returns them.
    """
    kept = np.ones(len(rows), bool)
    for later, earlier in pairs.tolist():
        if kept[later] and kept[earlier]:
            kept[later] = False
            out[rows[later]] = rows[earlier]
    kept_rows: np.ndarray = rows[kept]
    return kept_rows
