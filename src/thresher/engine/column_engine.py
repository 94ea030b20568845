"""Computes the columns of signals: inputs first, and each distinct signal once.

Stored columns are loaded, missing ones scored, and rows that fail excluded. The engine calls the
parts listed in `thresher.engine` in the right order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.cache import CacheQuery, ColumnCache, RowColumn
from thresher.engine.checks import check_values, fault_of
from thresher.engine.context import RunContext
from thresher.engine.eligible import EligibleRows, FailureLimit
from thresher.engine.graph import memo_key, model_of, needs_model, walk
from thresher.engine.models import NO_MODEL, Models
from thresher.engine.numbering import RowNumbering
from thresher.engine.pool_columns import PoolColumn
from thresher.engine.record_facts import RecordFacts
from thresher.engine.remote import RemoteScorer
from thresher.engine.scoring import LocalScorer, ScoredKeys, Scorer
from thresher.engine.scoring_request import ScoringRequest, SignalRun, blank, make_scoring_request
from thresher.engine.servers import check_servers, servers_of
from thresher.engine.table import ColumnTable, Fields
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.types import (
    Capability,
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
    from thresher.backends import ModelHandle
    from thresher.pools.view import PoolView
    from thresher.request import RunRequest


class ColumnEngine:
    """Computes the columns of one pool.

    Arguments:
        pool: n rows.
        request: the seed, and how rows that fail are treated.
        context: store and models.
        within: bool [n], pool order: the rows that are considered; None: all.
        is_aside: whether a row with this error is set aside instead of counted as a failure.
        limit: how many rows may fail, in place of `request.on_missing`.
        scorer: scores missing rows; None: the workers of `context`, else this process.
        cache: columns kept in memory; None: no cache.

    Attributes:
        numbering: pool rows, positions and keys; all arrays are indexed by position.
        eligible: the rows that are left.
        models: opened and trained when they are needed.
        table: the columns computed so far.
        runs: what each row signal cost.
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
        self.faults: list[str] = []  # why columns are meaningless that `force` lets through
        self._scorer: Scorer
        if scorer is not None:
            self._scorer = scorer
        elif context.workers is not None:
            self._scorer = RemoteScorer(context, context.workers)
        else:
            self._scorer = LocalScorer(
                pool, request, context, self.models, self.table, self.eligible
            )
        self._cache = cache
        self._facts = RecordFacts(pool)
        self._labels: dict[str, str] = {}  # memo key -> name in messages
        # signals that share a pass, as declared: batch key -> memo key -> signal
        self._batches: dict[Hashable, dict[str, SharedSignal]] = {}
        self._context = context
        self._servers: list[ModelHandle] = []  # asked later, and not known to answer
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
        """Register signals before any of them is computed.

        So an input that is also one of the signals has its name in messages, and signals with the
        same `batch_key` share a pass.
        """
        for name, signal in signals.items():
            self._labels.setdefault(memo_key(signal), name)
        self._servers += servers_of(signals, self._context)
        for signal in walk(signals):
            if isinstance(signal, SharedSignal):
                batch = self._batches.setdefault(signal.batch_key(), {})
                batch.setdefault(memo_key(signal), signal)

    def column(self, signal: Signal, label: str) -> Fields:
        """Compute one signal: field -> array [n], by position.

        The values are meaningful for the rows that are eligible afterwards. Raises what `columns`
        raises.

        Arguments:
            signal: the signal; its inputs are computed first.
            label: its name in messages, unless it was declared under another one.
        """
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
            facts = signal.facts(self._facts)  # field -> [n], pool order
            fields = {f.name: facts[f.name][self.numbering.pool_rows] for f in signal.fields}
        else:
            raise TypeError(
                f"{type(signal).__qualname__} has none of `rows`, `pool`, `pool_rows` and "
                "`facts`: it is not a signal"
            )
        self.table[signal] = fields
        return fields

    def scoring_request(self, signal: RowSignal, label: str) -> ScoringRequest:
        """Which values of a signal are stored and which are missing, for the rows eligible now.

        Its inputs must have been computed.

        Arguments:
            signal: as declared.
            label: its name in messages.
        """
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
            self._context.started,
        )
        if request.missing.any():
            self.models.check_can_train(request.signal, label)
        return request

    def close(self) -> None:
        """Close the model that is open."""
        self.models.close()

    def _pool_signal(self, signal: PoolSignal) -> Fields:
        """A column that is computed from other columns of all eligible rows."""
        inputs = self.table.columns(signal.inputs()).take(self.eligible.mask)  # e rows
        return self._spread(signal, signal.pool(inputs), np.flatnonzero(self.eligible.mask))

    def stored(self, signal: StoredPoolSignal) -> Fields | None:
        """The stored column for the rows that are eligible now, loaded without its inputs; None if
        it is not stored for exactly these rows."""
        rows = np.flatnonzero(self.eligible.mask)  # [e] int64, positions
        digest = self.numbering.digest[rows]  # [e] DIGEST
        values = PoolColumn.of(signal, digest).load(digest, self.store)
        return None if values is None else self._spread(signal, values, rows)

    def _stored_pool_signal(self, signal: StoredPoolSignal, label: str) -> Fields:
        """A column of all eligible rows that is stored for exactly this set of rows."""
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
        """A column that is computed and stored row by row; rows that failed are excluded."""
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
        if run.needed:  # otherwise the model was not used, and need not exist
            self.models.record_training(resolved, label)
        self.eligible.exclude(column.failed, label, column.errors)
        return column.fields

    def _load_or_score(self, signal: RowSignal, label: str) -> RowColumn:
        request = self.scoring_request(signal, label)
        if request.missing.any():
            self._check_servers(request.signal)
            for keys in self._scorer.score([request, *self._peers(signal, request)]):
                self._scored.setdefault(keys.fingerprint, []).append(keys)
            request = request.loaded(self.store)
        fp, fields = request.fingerprint, request.signal.fields
        errors = request.errors.tolist()
        if not self._request.force:
            check_values(request.signal, label, request.values, errors)
        elif fault := fault_of(request.signal, label, request.values, errors):
            self.faults.append(fault)
        scored = self._scored.pop(fp, [])
        m = len(request.keys)
        failed = request.errors != ""  # [m] bool
        run = SignalRun(
            signal.kind,
            label,
            fp,
            needed=m,
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

    def _check_servers(self, signal: RowSignal) -> None:
        """Before a model scores the pool, look whether the servers of the other models answer.
        Raises ServerError."""
        if signal.needs is Capability.NONE:
            return
        model = model_of(signal)
        check_servers([server for server in self._servers if server.identity != model])
        self._servers = []

    def _peers(self, signal: RowSignal, request: ScoringRequest) -> list[ScoringRequest]:
        """The requests of other signals that share a pass with this one, if not computed yet."""
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
        assert same, f"{signal.kind!r} shares a pass with signals that have other inputs"
        return others

    def _spread(
        self, signal: Signal, values: Mapping[str, np.ndarray], positions: np.ndarray
    ) -> Fields:
        """Values of r rows as columns of all n rows, zero elsewhere.

        `values`: field -> array [r]; `positions`: int64 [r].
        """
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
    """How many of `keys` (DIGEST [m]) are in `scored` (DIGEST [s] each), which may also contain
    rows that were excluded after a pass for another signal."""
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
    """An engine for these signals, after checks that need no scores.

    Raises ConfigError if a model is needed and none is given, and TooManyFailures.

    Arguments:
        pool, request, context, within, is_aside, scorer, cache: as for `ColumnEngine`.
        signals: the signals that will be computed.
        usable_only: exclude rows that no model can use even if no signal uses a model, because
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
