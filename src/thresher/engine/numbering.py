"""The numbering of a pool's rows. Every row has three numbers:

    pool row   0 … n-1 in the order of the files: how a pool is read, and what users see
    position   0 … n-1 in canonical order, by digest: the index of every array of the engine
    key        a row's digest or, for a signal with inputs, a hash of the digest and the input
               values: identifies a value in the store (a `ScoringRequest` maps positions to keys)

Columns and methods use positions only, so nothing depends on the order of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.types import Columns, seeded_ties

if TYPE_CHECKING:
    from thresher.pools.view import PoolView


@dataclass(frozen=True, eq=False)
class RowNumbering:
    """The rows of one pool in canonical order. Arrays are indexed by position, `positions` by pool
    row."""

    pool_rows: np.ndarray  # int64 [n]: the pool row at each position
    positions: np.ndarray  # int64 [n]: the position of each pool row, the inverse
    digest: np.ndarray  # DIGEST [n], ascending
    ties: np.ndarray  # uint64 [n]: breaks ties between rows, smallest first
    source: np.ndarray  # int32 [n], index into `source_names`
    source_names: tuple[str, ...]

    @classmethod
    def of(cls, pool: PoolView, seed: int) -> RowNumbering:
        """The numbering of a pool.

        Arguments:
            pool: n rows.
            seed: of `ties`.
        """
        digest = pool.digest[pool.order]  # [n] DIGEST
        return cls(
            pool.order,
            pool.rank,
            digest,
            seeded_ties(digest, seed),
            pool.source[pool.order],
            pool.source_names,
        )

    def __len__(self) -> int:
        return len(self.pool_rows)

    def columns(self, values: Mapping[str, Mapping[str, np.ndarray]]) -> Columns:
        """All n rows with these values: name -> field -> array [n], by position."""
        return Columns(self.digest, self.ties, self.source, self.source_names, values)
