"""A subset that has the distribution of a number in the pool, with room for a preference.

The rule: bins by quantiles of the number; each bin keeps its share of the pool (`spread`); inside a bin the rows are
lined up so that neighbours are alike, the line is cut into as many equal slots as the bin has places, `block`
neighbouring slots form a block, and each block gives one row a slot: a part of them by `preference`, the others by
`ties`.

Why blocks and not the bin as a whole: a preference that is correlated with the number (or with a second number that
should be mirrored too, `also`) would otherwise move the distribution inside each bin by up to the bin's width, which
for thousands of rows is more than a plain random draw does. Inside a block there is little left to move.
`docs/methods/clipper.md` has figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.samplers.allocate import spread, water_fill
from thresher.samplers.orders import order_by, places, remembered, stable_order
from thresher.samplers.quantile_bins import quantile_bins
from thresher.samplers.stratified import rank_within


@dataclass(frozen=True)
class Matched:
    """What `match_distribution` took."""

    rows: np.ndarray
    """int64 [min(k, n)]: the preferred rows first, most preferred first, then the others in `ties` order."""
    preferred: np.ndarray
    """bool [n]: taken by preference."""
    bin: np.ndarray
    """int32 [n]: bin of the number, 0 = smallest."""


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
) -> Matched:
    """Take `min(k, n)` of n rows so that `values` (and `also`) are distributed as in the pool.

    `values`, `also`: finite floats [n]. `preference`: floats [n], larger = rather taken, no NaN. `share`: part of the
    rows taken by preference, 0..1. `balance`: int >= 0 [n]: inside each bin every value of it gets the same number of
    rows, as far as it has them (then only the bins are mirrored, not what is finer). `block`: places per block, >= 1;
    larger = more room for the preference, and a worse mirror.
    """
    n = len(values)
    k = min(max(k, 0), n)
    # from here on rows are in ties order and every sort is stable: equals stay in ties order without a key for it
    order = stable_order(ties)
    told = (values, ties) if also is None else (values, ties, also)
    fixed = remembered(
        f"match {bins}", told, lambda: _fixed(values[order], bins, None if also is None else also[order])
    )
    quota = spread(k, np.bincount(fixed.bin)) if n else np.zeros(0, np.int64)
    cell, places_, by_value = fixed.bin.astype(np.int64), quota, fixed.by_value
    if balance is not None:
        cell, places_ = _balanced(fixed.bin, quota, balance[order])
        by_value = order_by(cell, places(by_value))
    line = _line_up(cell, by_value, fixed.also, places_, bins, block)
    in_block, begin, end = _blocks(cell, places_, line, block)

    preferred = np.zeros(n, bool)
    first = np.zeros(0, np.int64)
    if preference is not None:
        # rounded on the running number of places, so that the share holds over any run of blocks, however small
        wanted = np.floor(end * share + 0.5) - np.floor(begin * share + 0.5)
        against = remembered(
            "against", (preference, ties), lambda: places(np.argsort(-preference[order], kind="stable"))
        )
        preferred = rank_within(in_block, order_by(in_block, against)) < wanted[in_block]
        first = np.flatnonzero(preferred)
        first = first[np.argsort(against[first])]
    by_block = order_by(2 * in_block + ~preferred)  # in each block the preferred, then the others
    taken = rank_within(in_block, by_block) < (end - begin)[in_block]
    rows = order[np.r_[first, np.flatnonzero(taken & ~preferred)]]

    back = places(order)
    return Matched(rows, preferred[back], fixed.bin[back])


@dataclass(frozen=True)
class _Fixed:
    """What does not depend on how many rows are taken. Arrays [n], in ties order, not to be written to."""

    bin: np.ndarray
    by_value: np.ndarray  # all positions, smallest value first
    also: np.ndarray | None  # the rank of the second number among its different values


def _fixed(values: np.ndarray, bins: int, also: np.ndarray | None) -> _Fixed:
    rank = None
    if also is not None:
        _, rank = np.unique(also, return_inverse=True)  # ranks: backwards is then exact, and equal values stay equal
    return _Fixed(quantile_bins(values, bins), np.argsort(values, kind="stable"), rank)


def _line_up(
    cell: np.ndarray, by_value: np.ndarray, also: np.ndarray | None, places: np.ndarray, bins: int, block: int
) -> np.ndarray:
    """All positions, cell by cell, alike rows beside each other, int64 [n]. `by_value`: all positions, by cell and value.

    One number: sorted by it. Two: the cell is cut into strips of values, each strip sorted by `also` (ranks), every other one
    backwards so that the line does not jump. Strips are as many as make blocks equally fine in both numbers over the
    whole pool.
    """
    if also is None:
        return by_value
    strips = np.maximum(np.ceil(np.sqrt(places / (block * bins))), 1).astype(np.int64)
    size = np.bincount(cell, minlength=len(places))
    strip = rank_within(cell, by_value) * strips[cell] // np.maximum(size[cell], 1)
    strip += (np.cumsum(strips) - strips)[cell]  # numbered over all cells
    top = int(also.max(initial=0))
    return order_by(strip, np.where(strip % 2 == 0, also, top - also))


def _blocks(
    cell: np.ndarray, places: np.ndarray, line: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut each cell's part of `line` into blocks of `block` places (the last of a cell may have fewer).

    Gives the block of each row, int64 [n], and for each block the number of places before it and up to its end, over
    all cells, int64 [blocks]. A cell without places is one block without places.
    """
    size = np.bincount(cell, minlength=len(places))
    slot = rank_within(cell, line) * places[cell] // np.maximum(size[cell], 1)  # 0 .. places-1; every slot has a row
    blocks = np.maximum(-(-places // block), 1)
    first_block = np.cumsum(blocks) - blocks
    cell_of = np.repeat(np.arange(len(places)), blocks)
    index = np.arange(len(cell_of)) - first_block[cell_of]  # of the block inside its cell
    before = (np.cumsum(places) - places)[cell_of]
    begin = before + np.minimum(index * block, places[cell_of])
    end = before + np.minimum((index + 1) * block, places[cell_of])
    return first_block[cell] + slot // block, begin, end


def _balanced(bin_: np.ndarray, quota: np.ndarray, balance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells (bin, balance value), int64 [n], and their places, int64 [cells]: the bin's quota in equal parts."""
    values = int(balance.max(initial=0)) + 1
    _, cell = np.unique(bin_.astype(np.int64) * values + balance, return_inverse=True)
    size = np.bincount(cell)
    home = np.zeros(len(size), np.int64)
    home[cell] = bin_
    places = np.zeros(len(size), np.int64)
    for b in range(len(quota)):
        mine = home == b
        places[mine] = water_fill(int(quota[b]), size[mine])
    return cell.astype(np.int64), places
