"""Scoring: computes the missing values of signals with a model, and stores rows as they complete.

Signals with the same batch key share a pass. Processes that work on the same store divide the rows
among themselves (`sharing`). Writes scores and their cost into the store.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thresher.console.formatting import pluralize
from thresher.engine import local
from thresher.engine.checks import EarlyCheck
from thresher.engine.context import RunContext
from thresher.engine.eligible import EligibleRows
from thresher.engine.graph import model_of
from thresher.engine.meter import FirstRows
from thresher.engine.models import Models
from thresher.engine.scoring_request import ScoringRequest, image_order
from thresher.engine.sharing import WorkQueue
from thresher.engine.table import ColumnTable
from thresher.pools.token_estimate import estimate_row_tokens
from thresher.storage.outages import OUTAGES
from thresher.types import Capability, ModelIdentity, Scored

if TYPE_CHECKING:
    from thresher.pools.view import PoolView
    from thresher.request import RunRequest

# Answers of a server may cost money: a killed process must not lose many.
SERVED_FLUSH_SECONDS = 2.0


@dataclass(frozen=True, eq=False)
class ScoredKeys:
    """The keys that one pass stored in a column."""

    fingerprint: str
    here: np.ndarray  # DIGEST [h]: scored by this process
    elsewhere: np.ndarray  # DIGEST [w]: scored by other processes during the pass


class Scorer(Protocol):
    """Computes missing values: in this process (`LocalScorer`), or for example on a cluster."""

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        """Store a value or an error for every row that is missing.

        Arguments:
            requests: at least one; several if their signals share a pass, with the same keys.

        Raises TooManyFailures, and what models and the store raise; what was scored is stored.
        """


@dataclass(frozen=True, eq=False)
class LocalScorer:
    """Scores in this process, which shares the rows with others that work on the same store."""

    pool: PoolView
    request: RunRequest
    context: RunContext
    models: Models
    table: ColumnTable
    eligible: EligibleRows

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        scored: list[ScoredKeys] = []
        for missing, rows in by_missing(requests):
            scored += _Pass(self, missing, rows).run()
        return scored


def by_missing(requests: Sequence[ScoringRequest]) -> list[tuple[list[ScoringRequest], np.ndarray]]:
    """Passes over the rows: one for each set of signals whose values are missing for the same rows.

    One pass in most runs; more if signals were added after some rows had been scored.

    Returns (requests of the pass, entries: int64 [e]) of each pass.

    Arguments:
        requests: at least one, all with the same m keys.
    """
    if len(requests) == 1:
        return [(list(requests), np.flatnonzero(requests[0].missing))]
    missing = np.stack([r.missing for r in requests])  # [s, m] bool
    patterns, which = np.unique(missing, axis=1, return_inverse=True)  # [s, p] bool, p distinct
    which = which.reshape(-1)  # [m] int64: the pattern of each entry; numpy 2.0 adds an axis
    return [
        ([requests[i] for i in np.flatnonzero(pattern).tolist()], np.flatnonzero(which == p))
        for p, pattern in enumerate(patterns.T)
        if pattern.any()
    ]


def with_failures(requests: Sequence[ScoringRequest], entries: np.ndarray) -> np.ndarray:
    """Which rows of a pass have a stored failure, bool [e].

    Arguments:
        requests: of the pass.
        entries: int64 [e], of the arrays [m] of each request.
    """
    out: np.ndarray = np.any([r.errors[entries] != "" for r in requests], axis=0)
    return out


def pass_label(requests: Sequence[ScoringRequest]) -> str:
    """The name of a pass in messages; `requests`: at least one."""
    more = f" and {len(requests) - 1} more" if len(requests) > 1 else ""
    return requests[0].label + more


class _Pass:
    """One pass over e rows for which the same signals have no values yet.

    Within the pass the rows are numbered 0 … e-1.

    Arguments:
        scorer: the pool, models and columns.
        requests: of the signals.
        entries: int64 [e], the rows as indices into the arrays [m] of each request, in any order.
    """

    def __init__(
        self, scorer: LocalScorer, requests: list[ScoringRequest], entries: np.ndarray
    ) -> None:
        first = requests[0]
        self.scorer, self.store = scorer, scorer.context.store
        self.progress = scorer.context.progress
        self.requests, self.signals = requests, [r.signal for r in requests]
        self.total = len(first.keys)  # rows of the column, stored ones included
        self.label = pass_label(requests)

        rows = scorer.table.numbering.pool_rows[first.first[entries]]  # [e] int64
        order = image_order(scorer.pool, rows, first.keys[entries])  # [e] int64
        entries = entries[order]
        self.pool_rows = rows[order]  # [e] int64
        self.keys = first.keys[entries]  # [e] DIGEST
        self.copies = first.copies[entries]  # [e] int64
        self.retried = with_failures(requests, entries)  # [e] bool
        inputs = first.signal.inputs()
        self.inputs = (
            scorer.table.columns(inputs).take(first.first[entries]) if inputs else None
        )  # e rows

        # error -> number of rows of this column that are known to fail
        self.failures: Counter[str] = Counter()
        known = ~first.missing & (first.errors != "")  # [m] bool
        for error, copies in zip(first.errors[known], first.copies[known], strict=True):
            self.failures[error] += int(copies)
        self.backend: Any = None
        self.failures_logged = sum(self.failures.values())
        self.scored = 0  # rows
        self.waited = 0.0  # seconds spent waiting for other processes
        self.outages = 0.0  # seconds of them in which a server of files did not answer
        self.elsewhere = 0  # rows scored by others that the progress bar includes already
        self.displayed = False  # whether the progress bar is displayed

    def run(self) -> list[ScoredKeys]:
        self.scorer.eligible.check(self.failures)  # before a model is opened
        for signal in self.signals:
            self.store.register(signal)
        labels = [r.label for r in self.requests]
        self.early_check = None if self.scorer.request.force else EarlyCheck(self.signals, labels)
        columns = [(r.fingerprint, r.signal.fields) for r in self.requests]
        self.queue = WorkQueue(
            self.store,
            columns,
            self.keys,
            self.retried,
            self.scorer.context.started,
            self._waiting,
            self.scorer.context.processes,
            estimate_row_tokens(self.scorer.pool.facts, self.pool_rows),
        )
        model = model_of(self.signals[0])
        served = isinstance(model, ModelIdentity) and model.served
        meter = self.scorer.context.meter
        self.first_rows = FirstRows(len(self.keys), self.scorer.context.processes)
        self.began, self.outages_before = time.monotonic(), OUTAGES.seconds
        try:
            with self.queue:
                local.score(
                    self.signals,
                    lambda entries: self.scorer.pool.samples(self.pool_rows[entries]),
                    self._next_block,
                    self.inputs,
                    lambda: self.backend,
                    self.scorer.pool,
                    self._keep,
                    self._advance,
                    flush_seconds=SERVED_FLUSH_SECONDS if served else local.FLUSH_SECONDS,
                )
        finally:
            if self.displayed and self.progress is not None:
                self.progress.finish()
            self.scorer.models.collect_notes()
            self.backend = None  # another pass may open another model
            seconds = self._seconds()
            for fp, _ in columns:
                self.store.record_cost(fp, self.scored, seconds / len(columns))
            elsewhere = int(self.queue.elsewhere.sum())
            waiting = OUTAGES.seconds - self.outages_before
            meter.add_pass((self.scored + elsewhere) * len(columns), seconds, waiting)
        self.store.publish()  # the costs
        here, elsewhere = self.keys[self.queue.scored_here], self.keys[self.queue.elsewhere]
        return [ScoredKeys(fp, here, elsewhere) for fp, _ in columns]

    def _seconds(self) -> float:
        """Since the pass began, without waiting for other processes, for the model, and for a
        server of files that did not answer."""
        outages = OUTAGES.seconds - self.outages_before - self.outages
        # images may be waited for while other rows are scored
        return max(time.monotonic() - self.began - self.waited - outages, 0.0)

    def _advance(self, rows: int) -> None:
        """Count `rows` rows that were completed."""
        if self.progress is not None:
            self.progress.advance(rows)
        seconds = self.first_rows.advance(rows, self._seconds())
        if seconds is not None:
            scores = len(self.keys) * len(self.requests)
            self.scorer.context.meter.estimate_pass(scores, seconds)

    def _next_block(self, flush: Callable[[], None]) -> np.ndarray | None:
        """The entries to score next, int64 [b]; None at the end."""
        began, outages = time.monotonic(), OUTAGES.seconds
        try:
            block = self.queue.next_block(self._ready, flush)
        finally:
            self.waited += time.monotonic() - began
            self.outages += OUTAGES.seconds - outages
        if self.displayed and self.progress is not None:
            elsewhere = int(self.queue.elsewhere.sum())
            self.progress.advance(elsewhere - self.elsewhere)
            self.elsewhere = elsewhere
        return block

    def _ready(self) -> None:
        """Open the model and display the progress, before rows are claimed."""
        if self.signals[0].needs is not Capability.NONE:
            self.backend = self.scorer.models.open(model_of(self.signals[0]))
        if not self.displayed and self.progress is not None:
            done = self.total - int((~self.queue.done).sum())
            self.progress.start(self.label, self.total, done)
            self.elsewhere = int(self.queue.elsewhere.sum())
        self.displayed = True

    def _waiting(self, rows: int) -> None:
        """Say that other processes have all rows that are left."""
        if self.progress is None:
            return
        if self.displayed:
            self.progress.finish()
        self.displayed = False
        self.progress.say(
            f"{self.label}: waiting for {pluralize(rows)} that other processes are scoring."
        )

    def _keep(self, entries: np.ndarray, pieces: list[Scored]) -> None:
        """Store complete rows. `entries`: int64 [b]; `pieces`: one for each signal, b rows."""
        self.scored += len(entries)
        for request, piece in zip(self.requests, pieces, strict=True):
            self.store.append(
                request.fingerprint,
                request.signal.fields,
                self.keys[entries],
                piece.values,
                piece.errors,
            )
        self.store.publish()
        self.queue.mark_stored(entries)
        if self.scorer.context.on_stored is not None:
            self.scorer.context.on_stored(len(entries))
        if self.early_check is not None:
            self.early_check.add(pieces)
        for i, of_row in enumerate(zip(*(piece.errors for piece in pieces), strict=True)):
            # a row fails once: with its first error
            if error := next(filter(None, of_row), ""):
                self.failures[error] += int(self.copies[entries[i]])
        failed = sum(self.failures.values())
        if self.progress is not None and failed > self.failures_logged:
            self.progress.measure("failed", failed)
            self.failures_logged = failed
        self.scorer.eligible.check(self.failures)
