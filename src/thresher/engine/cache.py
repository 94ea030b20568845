"""Columns in memory: the interface of a cache that outlives an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from thresher.engine.scoring_request import SignalRun
from thresher.engine.table import ColumnTable, Fields
from thresher.types import RowSignal


@dataclass(frozen=True, eq=False)
class RowColumn:
    """A row signal's column: its values, the rows that failed, and what it cost."""

    fields: Fields
    failed: np.ndarray  # int64 [f]: positions of rows that could not be scored
    errors: list[str]  # why, one for each
    run: SignalRun


@dataclass(frozen=True, eq=False)
class CacheQuery:
    """A row signal, and what its column depends on."""

    signal: RowSignal  # as declared
    fingerprint: str  # of the signal as the store knows it
    eligible: np.ndarray  # bool [n], by position
    table: ColumnTable  # holds the signal's inputs


class ColumnCache(Protocol):
    """Columns of row signals that are kept in memory from one engine to the next."""

    def get(self, query: CacheQuery) -> RowColumn | None:
        """The column for these rows and inputs; None: not in the cache."""

    def put(self, query: CacheQuery, column: RowColumn) -> None:
        """Keep a column that was computed for these rows and inputs.

        Arguments:
            query: the signal and what its column depends on.
            column: the column that was computed for it.
        """
