"""Columns in memory: an engine that recalls what an earlier one of the same pool loaded, and scores
nothing.

A row signal depends on the row and on its input values only. So a column holds for other rows of
the pool, another seed or another method as long as the inputs that it was computed from are the
same in the rows that count now; that is compared, value by value. What cannot be recalled is loaded
from the store, and what is not there is `NotStored`. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine import (
    CacheQuery,
    ColumnEngine,
    RowColumn,
    RunContext,
    ScoredKeys,
    ScoringRequest,
    create_engine,
)
from thresher.engine.graph import memo_key, needs_model
from thresher.engine.scoring_request import key_values
from thresher.engine.table import ColumnTable
from thresher.errors import ThresherError
from thresher.types import PartSignal, RowSignal, Signal

if TYPE_CHECKING:
    from thresher.pools.view import PoolView
    from thresher.request import RunRequest


class NeedsModel(ThresherError):
    """What was asked for takes a model that was not asked yet, and none runs here. The same by
    command works."""


class NotStored(NeedsModel):
    """A column is not there for some rows.

    Arguments:
        label: of the column, for the message.
        missing: number of rows without a value.
        requested: number of rows that were asked for.
    """

    def __init__(self, label: str, missing: int, requested: int) -> None:
        rows = "row" if missing == 1 else "rows"
        super().__init__(
            f"{label} is not stored for {missing:,} of {requested:,} {rows}, and no model runs "
            "here."
        )
        self.label, self.missing, self.requested = label, missing, requested


@dataclass(frozen=True, eq=False)
class Entry:
    """A row signal's column as it was computed. Arrays [n] by position."""

    fingerprint: str
    asked: np.ndarray  # bool: rows that were eligible then
    inputs: dict[tuple[str, str], np.ndarray]  # the values that it was computed from
    column: RowColumn


class Recall:
    """The columns of pools that stay open, under one store."""

    def __init__(self, pool: PoolView) -> None:
        self.pool = pool  # that is chosen from; any other is a validation set
        self._caches: dict[int, MemoryCache] = {}  # by id(pool)

    def new_engine(
        self,
        pool: PoolView,
        signals: Mapping[str, Signal],
        request: RunRequest,
        context: RunContext,
        *,
        usable_only: bool = False,
        within: np.ndarray | None = None,
        is_aside: Callable[[str], bool] | None = None,
    ) -> ColumnEngine:
        """As `create_engine`, but the engine runs no model.

        Raises NeedsModel in place of ConfigError.

        Arguments:
            pool, signals, request, context, usable_only, within, is_aside: as for `create_engine`.
        """
        if needs_model(signals) and context.model is None and not context.roles:
            raise NeedsModel(
                "This method asks a model about the rows, and the selection used none."
            )
        return create_engine(
            pool,
            signals,
            request,
            context,
            usable_only=usable_only,
            within=within,
            is_aside=is_aside,
            scorer=NoScorer("" if pool is self.pool else "validation "),
            cache=self._caches.setdefault(id(pool), MemoryCache()),
        )


@dataclass(frozen=True)
class NoScorer:
    """Scores nothing. `prefix`: put before the label of what is missing."""

    prefix: str

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        first = requests[0]
        raise NotStored(self.prefix + first.label, first.rows_missing, int(first.copies.sum()))


class MemoryCache:
    """The columns of one pool (an `engine.ColumnCache`)."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}  # by memo key

    def get(self, query: CacheQuery) -> RowColumn | None:
        known = self.entries.get(memo_key(query.signal))
        if known is None or known.fingerprint != query.fingerprint:
            return None
        inputs, rows = _inputs(query.signal, query.table), query.eligible
        if (rows & ~known.asked).any() or known.inputs.keys() != inputs.keys():
            return None
        same = all(
            a is known.inputs[k] or _same(a, known.inputs[k], rows) for k, a in inputs.items()
        )
        return known.column if same else None

    def put(self, query: CacheQuery, column: RowColumn) -> None:
        inputs = _inputs(query.signal, query.table)
        entry = Entry(query.fingerprint, query.eligible, inputs, column)
        self.entries[memo_key(query.signal)] = entry


def _inputs(signal: RowSignal, table: ColumnTable) -> dict[tuple[str, str], np.ndarray]:
    """The input columns that the signal's values depend on, and the rows that it is asked for."""
    out = key_values(signal, table)
    if isinstance(signal, PartSignal):
        out["", "among"] = table[signal.among]["chosen"]
    return out


def _same(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> bool:
    """Whether two arrays agree in the rows `where`; NaN agrees with NaN."""
    if a.dtype != b.dtype:
        return False
    differ = a != b
    if a.dtype.kind == "f":
        differ &= ~(np.isnan(a) & np.isnan(b))
    return not (differ & where).any()
