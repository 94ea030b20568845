"""Signals become columns, inputs first and each distinct signal once.

Stored columns are loaded, missing ones scored, and rows that fail excluded. The engine consists of
parts that do one thing each, and decides their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.cache import CacheQuery, ColumnCache, RowColumn
from thresher.engine.checks import check_values
from thresher.engine.context import RunContext
from thresher.engine.eligible import EligibleRows, FailureLimit
from thresher.engine.graph import memo_key, needs_model, walk
from thresher.engine.models import NO_MODEL, Models
from thresher.engine.numbering import RowNumbering
from thresher.engine.pool_columns import PoolColumn
from thresher.engine.scoring import LocalScorer, ScoredKeys, Scorer
from thresher.engine.scoring_request import ScoringRequest, SignalRun, blank, make_scoring_request
from thresher.engine.table import ColumnTable, Fields
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.types import (
    Columns,
    FactSignal,
    PartSignal,
    PoolSignal,
    RowSignal,
    SharedSignal,
    Signal,
    StoredPoolSignal,
)

if TYPE_CHECKING:
    from thresher.pools.view import PoolView
    from thresher.request import RunRequest


class ColumnEngine:
    """Computes the columns of one pool.

    numbering: pool rows, positions and keys; all arrays are indexed by position.
    eligible: the rows that are left.
    models: opened and trained when they are needed.
    table: the columns so far.
    runs: what each row signal cost.

    Arguments:
        pool: the pool.
        request: the seed, and how rows that fail are treated.
        context: store and models.
        within: bool [n], pool order: the rows that are considered; None: all.
        is_aside: whether a row with this error is set aside instead of counted as a failure.
        limit: how many rows may fail, in place of `request.on_missing`.
        scorer: where missing rows are scored; None: in this process.
        cache: columns kept in memory; None: none.
    """

    def __init__(
        self,
        pool: PoolView,
        request: RunRequest,
        context: RunContext,
        *,
        within: np.ndarray | None = None,
        is_aside: Callable[[str], bool] | None = None,
        limit: FailureLimit | None = None,
        scorer: Scorer | None = None,
        cache: ColumnCache | None = None,
    ) -> None:
        self.pool, self.store, self._request = pool, context.store, request
        self.numbering = RowNumbering.of(pool, request.seed)
        self.eligible = EligibleRows(self.numbering, request.on_missing, within, is_aside, limit)
        self.table = ColumnTable(self.numbering)
        self.models = Models(pool, context)
        self.runs: list[SignalRun] = []
        self._scorer = scorer or LocalScorer(
            pool, request, context, self.models, self.table, self.eligible
        )
        self._cache = cache
        self._labels: dict[str, str] = {}  # memo key -> name in messages
        # signals that are asked in one pass, as declared: batch -> memo key -> signal
        self._batches: dict[Hashable, dict[str, SharedSignal]] = {}
        self._scored: dict[str, list[ScoredKeys]] = {}  # by fingerprint, until its column is made

    def columns(self, signals: Mapping[str, Signal]) -> Columns:
        """The named columns of the rows that are eligible once all of them are computed.

        Raises TooManyFailures, StoreError, ConfigError, and what opening a model raises.
        """
        self.declare(signals)
        for name, signal in signals.items():
            self.column(signal, name)
        return self.table.columns(signals).take(self.eligible.mask)

    def declare(self, signals: Mapping[str, Signal]) -> None:
        """Announce signals before they are computed: their names, also for those that others have
        as inputs, and which are asked together."""
        for name, signal in signals.items():
            self._labels.setdefault(memo_key(signal), name)
        for signal in walk(signals):
            if isinstance(signal, SharedSignal):
                batch = self._batches.setdefault(signal.batch_key(), {})
                batch.setdefault(memo_key(signal), signal)

    def column(self, signal: Signal, label: str) -> Fields:
        """field -> array [n], by position; meaningful for the rows that are eligible now."""
        if signal in self.table:
            return self.table[signal]
        label = self._labels.setdefault(memo_key(signal), label)
        if isinstance(signal, StoredPoolSignal):
            self.table[signal] = stored = self._stored_pool_signal(signal, label)
            return stored
        for name, inner in signal.inputs().items():
            self.column(inner, f"{label}.{name}")
        if isinstance(signal, RowSignal):
            fields = self._row_signal(signal, label)
        elif isinstance(signal, PoolSignal):
            fields = self._pool_signal(signal)
        elif isinstance(signal, FactSignal):
            facts = signal.facts(self.pool.facts)  # field -> [n], pool order
            fields = {f.name: facts[f.name][self.numbering.pool_rows] for f in signal.fields}
        else:
            raise TypeError(
                f"{type(signal).__qualname__} has none of `rows`, `pool`, `pool_rows` and "
                "`facts`: it is not a signal"
            )
        self.table[signal] = fields
        return fields

    def scoring_request(self, signal: RowSignal, label: str) -> ScoringRequest:
        """What is stored of a signal, for the rows that it would be scored for now. Its inputs are
        computed."""
        rows = self.eligible.mask  # [n] bool
        if isinstance(signal, PartSignal):
            rows = rows & self.table[signal.among]["chosen"]
        request = make_scoring_request(
            self.models.resolve(signal, self.table, self.eligible.mask),
            label,
            np.flatnonzero(rows),
            self.table,
            self.store,
            self._request.retry_errors,
        )
        if request.missing.any():
            self.models.check_can_train(request.signal, label)
        return request

    def close(self) -> None:
        """Release the model that is open."""
        self.models.close()

    def _pool_signal(self, signal: PoolSignal) -> Fields:
        """A column of all eligible rows at once, computed from other columns of them."""
        inputs = self.table.columns(signal.inputs()).take(self.eligible.mask)  # e rows
        return self._spread(signal, signal.pool(inputs), np.flatnonzero(self.eligible.mask))

    def stored(self, signal: StoredPoolSignal) -> Fields | None:
        """The column for the rows that are eligible now, without its inputs; None: not stored."""
        rows = np.flatnonzero(self.eligible.mask)  # [e] int64, positions
        digest = self.numbering.digest[rows]  # [e] DIGEST
        values = PoolColumn.of(signal, digest).load(digest, self.store)
        return None if values is None else self._spread(signal, values, rows)

    def _stored_pool_signal(self, signal: StoredPoolSignal, label: str) -> Fields:
        """A column of all eligible rows at once that is stored for this set of rows."""
        before = self.eligible.mask.copy()  # [n] bool
        if (found := self.stored(signal)) is not None:
            return found
        for name, inner in signal.inputs().items():
            self.column(inner, f"{label}.{name}")
        mask = self.eligible.mask
        if (mask != before).any() and (found := self.stored(signal)) is not None:
            return found
        inputs = self.table.columns(signal.inputs()).take(mask)  # e rows
        pool_rows = self.eligible.pool_rows  # [e] int64
        values = signal.pool_rows(inputs, lambda at: self.pool.samples(pool_rows[at]))
        PoolColumn.of(signal, inputs.digest).save(inputs.digest, values, self.store)
        return self._spread(signal, values, np.flatnonzero(mask))

    def _row_signal(self, signal: RowSignal, label: str) -> Fields:
        """A column that is scored row by row and stored; rows that failed are excluded."""
        began = time.monotonic()
        eligible = self.eligible.mask.copy()  # [n] bool
        resolved = self.models.resolve(signal, self.table, eligible)
        query = CacheQuery(signal, fingerprint(resolved), eligible, self.table)
        cache = self._cache
        if cache is not None and (column := cache.get(query)):
            run = replace(column.run, label=label, scored=0, elsewhere=0)
        else:
            column = self._load_or_score(signal, label)
            run = column.run
            if cache is not None:
                cache.put(query, column)
        self.runs.append(replace(run, seconds=time.monotonic() - began))
        if run.wanted:  # otherwise the model was not used, and need not exist
            self.models.record_training(resolved, label)
        self.eligible.exclude(column.failed, label, column.errors)
        return column.fields

    def _load_or_score(self, signal: RowSignal, label: str) -> RowColumn:
        request = self.scoring_request(signal, label)
        if request.missing.any():
            for keys in self._scorer.score([request, *self._peers(signal, request)]):
                self._scored.setdefault(keys.fingerprint, []).append(keys)
            request = request.loaded(self.store)
        fp, fields = request.fingerprint, request.signal.fields
        if not self._request.force:
            check_values(request.signal, label, request.values, request.errors.tolist())
        scored = self._scored.pop(fp, [])
        m = len(request.keys)
        failed = request.errors != ""  # [m] bool
        run = SignalRun(
            signal.kind,
            label,
            fp,
            wanted=m,
            scored=_count(request.keys, [keys.here for keys in scored]),
            failed=int(failed.sum()),
            seconds=0.0,
            cost=m * self.store.cost(fp),
            elsewhere=_count(request.keys, [keys.elsewhere for keys in scored]),
        )
        values = {f.name: request.values[f.name][request.entry] for f in fields}  # [r] each
        out = self._spread(signal, values, request.positions)
        if isinstance(signal, PartSignal):
            blank(out, request.positions)
        left = failed[request.entry]  # [r] bool
        errors = request.errors[request.entry[left]].tolist()
        return RowColumn(out, request.positions[left], errors, run)

    def _peers(self, signal: RowSignal, request: ScoringRequest) -> list[ScoringRequest]:
        """The requests of other signals that are asked together with this one and are not computed
        yet."""
        if not isinstance(signal, SharedSignal):
            return []
        batch, own = self._batches.get(signal.batch_key(), {}), memo_key(signal)
        others = [
            self.scoring_request(peer, self._labels.get(key, request.label))
            for key, peer in batch.items()
            if key != own and peer not in self.table
        ]
        others = [other for other in others if other.fingerprint != request.fingerprint]
        same = all(np.array_equal(other.keys, request.keys) for other in others)
        assert same, f"{signal.kind!r} is asked together with signals of other inputs"
        return others

    def _spread(
        self, signal: Signal, values: Mapping[str, np.ndarray], positions: np.ndarray
    ) -> Fields:
        """Values of some rows as columns of all n; zero elsewhere. `positions`: int64 [r]."""
        out = {}
        for f in signal.fields:
            array = np.asarray(values[f.name])  # [r]
            assert len(array) == len(positions), (
                f"signal {signal.kind!r}: field {f.name!r} has a wrong length"
            )
            out[f.name] = np.zeros(len(self.numbering), array.dtype)
            out[f.name][positions] = array
        return out


def _count(keys: np.ndarray, scored: list[np.ndarray]) -> int:
    """How many of `keys` (DIGEST [m]) are among those scored: a pass for another signal may also
    have scored rows that are excluded by now."""
    return int(np.isin(keys, np.concatenate(scored)).sum()) if scored else 0


def create_engine(
    pool: PoolView,
    signals: Mapping[str, Signal],
    request: RunRequest,
    context: RunContext,
    *,
    usable_only: bool = False,
    within: np.ndarray | None = None,
    is_aside: Callable[[str], bool] | None = None,
    scorer: Scorer | None = None,
    cache: ColumnCache | None = None,
) -> ColumnEngine:
    """An engine for these signals; errors that are known in advance are raised here.

    Raises ConfigError without a model where one is needed, and TooManyFailures.

    Arguments:
        pool, request, context, within, is_aside, scorer, cache: as for `ColumnEngine`.
        signals: that will be computed.
        usable_only: exclude rows that no model can use even if no signal asks a model, because
            a model will be trained on the rest.
    """
    needs = needs_model(signals)
    if needs and context.model is None and not context.roles:
        raise ConfigError(NO_MODEL)
    engine = ColumnEngine(
        pool, request, context, within=within, is_aside=is_aside, scorer=scorer, cache=cache
    )
    engine.eligible.exclude_known_problems(pool, needs or usable_only)
    return engine
