"""Scoring by other processes: this one starts no model, and follows in the store what they score.
Reads the store only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.context import RunContext
from thresher.engine.scoring import ScoredKeys, by_missing, pass_label, with_failures
from thresher.engine.scoring_request import ScoringRequest
from thresher.engine.stored_entries import StoredEntries
from thresher.engine.workers import Workers, wait_until
from thresher.storage.outages import OUTAGES

if TYPE_CHECKING:
    from thresher.console.progress import Progress


COST_SECONDS = 5.0
COST_POLL_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class RemoteScorer:
    """Waits while workers score the rows.

    Arguments:
        context: the store and the progress.
        workers: that score.
    """

    context: RunContext
    workers: Workers

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        scored: list[ScoredKeys] = []
        for missing, rows in by_missing(requests):
            scored += self._follow(missing, rows)
        return scored

    def _follow(self, requests: list[ScoringRequest], entries: np.ndarray) -> list[ScoredKeys]:
        """Wait until `entries` (int64 [e], of the arrays [m] of each request) are stored."""
        first, progress = requests[0], self.context.progress
        columns = [(r.fingerprint, r.signal.fields) for r in requests]
        keys = first.keys[entries]  # [e] DIGEST
        retried = with_failures(requests, entries)
        rows = StoredEntries(self.context.store, columns, keys, retried, self.context.started)
        rows.refresh()
        before = _Bar(progress, pass_label(requests), len(first.keys), rows)

        def done() -> bool:
            rows.refresh()
            before.advance()
            return bool(rows.done.all())

        missing, began = int((~rows.done).sum()), time.monotonic()
        outages = OUTAGES.seconds
        try:
            wait_until(done, self.workers)
        finally:
            done()
            before.finish()
            scores = (missing - int((~rows.done).sum())) * len(columns)
            waiting = OUTAGES.seconds - outages
            seconds = max(time.monotonic() - began - waiting, 0.0)
            self.context.meter.add_pass(scores, seconds, waiting)
        if rows.done.all():
            self._wait_for_cost([fp for fp, _ in columns])
        nothing = keys[:0]
        return [ScoredKeys(fp, nothing, keys[rows.done]) for fp, _ in columns]

    def _wait_for_cost(self, fingerprints: Sequence[str]) -> None:
        """A worker records what scoring cost only after its last row, which is read from here on.

        `fingerprints`: of the columns.
        """
        store, end = self.context.store, time.monotonic() + COST_SECONDS
        while not all(store.cost(fp) for fp in fingerprints) and time.monotonic() < end:
            time.sleep(COST_POLL_SECONDS)


class _Bar:
    """The progress of one pass: rows that are stored."""

    def __init__(
        self, progress: Progress | None, label: str, total: int, rows: StoredEntries
    ) -> None:
        self._progress, self._rows = progress, rows
        self._done = int(rows.done.sum())
        if progress is not None:
            progress.start(label, total, total - int((~rows.done).sum()))

    def advance(self) -> None:
        done = int(self._rows.done.sum())
        if self._progress is not None and done > self._done:
            self._progress.advance(done - self._done)
        self._done = done

    def finish(self) -> None:
        if self._progress is not None:
            self._progress.finish()
