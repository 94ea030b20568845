"""Choose a subset whose distribution of a value matches the pool's, preferring some rows.

Rows are put into quantile bins of the value, and each bin keeps its share of the pool
(`cumulative_apportionment`). Within a bin, rows are sorted so that neighbours are similar, and the
sequence is cut into as many equal slots as the bin's quota; `block` adjacent slots form a block.
Each block contributes one row per slot: some of them by `preference`, the others by `ties`.

Why blocks and not whole bins: a preference that is correlated with the value (or with `also`, a
second value to match) would shift the distribution within each bin by up to the bin's width, which
for thousands of rows is more than a random sample does. Within a block it can shift only a little.
`docs/methods/clipper.md` has figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.samplers.apportionment import cumulative_apportionment, water_fill
from thresher.samplers.ordering import cached, inverse_permutation, order_by, stable_order
from thresher.samplers.quantile_bins import quantile_bins
from thresher.samplers.stratified import rank_within


@dataclass(frozen=True)
class MatchedSample:
    """Result of `match_distribution`."""

    rows: np.ndarray
    """int64 [min(k, n)]: rows taken by preference, most preferred first, then the others by `ties`.
    """
    preferred: np.ndarray
    """bool [n]: taken by preference."""
    bin: np.ndarray
    """int32 [n]: bin of the value, 0 = smallest."""


def match_distribution(
    values: np.ndarray,
    k: int,
    ties: np.ndarray,
    *,
    bins: int = 20,
    preference: np.ndarray | None = None,
    share: float = 0.5,
    also: np.ndarray | None = None,
    balance: np.ndarray | None = None,
    block: int = 1,
) -> MatchedSample:
    """Take `min(k, n)` of n rows so that `values` (and `also`) are distributed as in the pool.

    Arguments:
        values: finite floats [n], the value to match.
        k: number of rows to take.
        ties: uint64 [n], smallest first.
        bins: number of quantile bins.
        preference: floats [n], larger = preferred, no NaN. None: no preference.
        share: fraction of the rows taken by preference, 0..1.
        also: finite floats [n], a second value to match.
        balance: int [n], >= 0: within each bin every label gets the same number of rows, as far as
            available. Then only the bins are matched, nothing finer.
        block: slots per block, >= 1. Larger gives the preference more room and a worse match.
    """
    n = len(values)
    k = min(max(k, 0), n)
    # From here on rows are in ties order and every sort is stable, so ties need no second key.
    order = stable_order(ties)
    arrays = (values, ties) if also is None else (values, ties, also)
    prepared = cached(
        f"match {bins}",
        arrays,
        lambda: _prepare(values[order], bins, None if also is None else also[order]),
    )
    quota = cumulative_apportionment(k, np.bincount(prepared.bin)) if n else np.zeros(0, np.int64)
    cell, cell_quota, by_value = prepared.bin.astype(np.int64), quota, prepared.by_value
    if balance is not None:
        cell, cell_quota = _balanced(prepared.bin, quota, balance[order])
        by_value = order_by(cell, inverse_permutation(by_value))
    line = _sort_cells(cell, by_value, prepared.also, cell_quota, bins, block)
    in_block, begin, end = _blocks(cell, cell_quota, line, block)

    preferred = np.zeros(n, bool)
    first = np.zeros(0, np.int64)
    if preference is not None:
        # rounded on the running number of slots, so that the share holds over any run of blocks
        n_preferred = np.floor(end * share + 0.5) - np.floor(begin * share + 0.5)
        preference_rank = cached(
            "against",
            (preference, ties),
            lambda: inverse_permutation(stable_order(-preference[order])),
        )
        preferred = (
            rank_within(in_block, order_by(in_block, preference_rank)) < n_preferred[in_block]
        )
        first = np.flatnonzero(preferred)
        first = first[np.argsort(preference_rank[first])]
    by_block = order_by(2 * in_block + ~preferred)  # in each block, preferred rows first
    taken = rank_within(in_block, by_block) < (end - begin)[in_block]
    rows = order[np.r_[first, np.flatnonzero(taken & ~preferred)]]

    inverse = inverse_permutation(order)
    return MatchedSample(rows, preferred[inverse], prepared.bin[inverse])


@dataclass(frozen=True)
class _Prepared:
    """The part that does not depend on k. Arrays [n], in ties order, read-only."""

    bin: np.ndarray
    by_value: np.ndarray  # all positions, smallest value first
    also: np.ndarray | None  # the rank of the second value among its distinct values


def _prepare(values: np.ndarray, bins: int, also: np.ndarray | None) -> _Prepared:
    rank = None
    if also is not None:
        _, rank = np.unique(also, return_inverse=True)  # ranks can be reversed exactly
    return _Prepared(quantile_bins(values, bins), stable_order(values), rank)


def _sort_cells(
    cell: np.ndarray,
    by_value: np.ndarray,
    also: np.ndarray | None,
    quota: np.ndarray,
    bins: int,
    block: int,
) -> np.ndarray:
    """Sort each cell so that neighbours are similar, int64 [n], cell by cell.

    With one value, rows are sorted by it. With two, the cell is cut into strips of the first and
    each strip is sorted by the second, alternately ascending and descending so that the sequence
    does not jump. The number of strips makes blocks equally fine in both values over the whole
    pool.

    Arguments:
        cell: int [n].
        by_value: int [n], all positions sorted by cell and value.
        also: ranks of the second value [n], or None.
        quota: int [cells], rows to take.
        bins: number of quantile bins.
        block: slots per block.
    """
    if also is None:
        return by_value
    strips = np.maximum(np.ceil(np.sqrt(quota / (block * bins))), 1).astype(np.int64)
    size = np.bincount(cell, minlength=len(quota))
    strip = rank_within(cell, by_value) * strips[cell] // np.maximum(size[cell], 1)
    strip += (np.cumsum(strips) - strips)[cell]  # numbered over all cells
    top = int(also.max(initial=0))
    return order_by(strip, np.where(strip % 2 == 0, also, top - also))


def _blocks(
    cell: np.ndarray, quota: np.ndarray, line: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut each cell's part of `line` into blocks of `block` slots (a cell's last may have fewer).

    Returns the block of each row, int64 [n], and for each block the number of slots before it and
    up to its end, counted over all cells, int64 [blocks]. A cell with quota 0 is one empty block.
    """
    size = np.bincount(cell, minlength=len(quota))
    # 0 .. quota-1; every slot has a row
    slot = rank_within(cell, line) * quota[cell] // np.maximum(size[cell], 1)
    blocks = np.maximum(-(-quota // block), 1)
    first_block = np.cumsum(blocks) - blocks
    cell_of = np.repeat(np.arange(len(quota)), blocks)
    index = np.arange(len(cell_of)) - first_block[cell_of]  # of the block inside its cell
    before = (np.cumsum(quota) - quota)[cell_of]
    begin = before + np.minimum(index * block, quota[cell_of])
    end = before + np.minimum((index + 1) * block, quota[cell_of])
    return first_block[cell] + slot // block, begin, end


def _balanced(
    bin_: np.ndarray, quota: np.ndarray, balance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cells (bin, label), int64 [n], and their quotas, int64 [cells]: the bin's quota in equal
    parts.
    """
    values = int(balance.max(initial=0)) + 1
    _, cell = np.unique(bin_.astype(np.int64) * values + balance, return_inverse=True)
    size = np.bincount(cell)
    bin_of_cell = np.zeros(len(size), np.int64)
    bin_of_cell[cell] = bin_
    cell_quota = np.zeros(len(size), np.int64)
    for b in range(len(quota)):
        members = bin_of_cell == b
        cell_quota[members] = water_fill(int(quota[b]), size[members])
    return cell.astype(np.int64), cell_quota
