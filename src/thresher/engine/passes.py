"""Asking models: what is missing of a signal is scored, and every complete piece goes to the store
at once.

Signals that are asked together share a pass. One model is open at a time; one that thresher trains
is trained when it is first asked. Writes scores, costs and trained models into the store.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from thresher.console.formatting import pluralize
from thresher.engine import local
from thresher.engine.active import ActiveRows
from thresher.engine.graph import asked, memo_key, models_to_train
from thresher.engine.meaning import FirstRows
from thresher.engine.means import Means
from thresher.engine.requests import Request, SignalRun, image_order, key_fields
from thresher.engine.requests import request as request_of
from thresher.engine.sharing import Share
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.training.lesson_pool import LessonPool
from thresher.training.registry import TrainingRun, identity_of, trained_model
from thresher.types import (
    Capability,
    Columns,
    ModelIdentity,
    PartSignal,
    RowSignal,
    Sample,
    Scored,
    SharedSignal,
    TrainedIdentity,
    TrainedModel,
    TrainingRows,
)

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools import Pool

_Row = TypeVar("_Row", bound=RowSignal)
SERVED_FLUSH_SECONDS = 2.0  # answers of a server may be paid for: a kill must not cost many


class Passes(ActiveRows):
    """Models, and what was asked of them. The columns of a signal's inputs are known when it is
    asked (`_memo`)."""

    def __init__(
        self,
        pool: Pool,
        means: Means,
        *,
        within: np.ndarray | None = None,
        aside: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(pool, means.seed, means.on_missing, within, aside)
        self.store, self.model = means.store, means.model
        self.handles = {handle.identity: handle for handle in means.roles.values()}
        if means.model is not None:
            self.handles[means.model.identity] = means.model
        self.retry_errors, self.progress, self.trainer = (
            means.retry_errors,
            means.progress,
            means.trainer,
        )
        self.force = means.force
        self.runs: list[SignalRun] = []
        self.notes: list[str] = []  # what the models' backends have to say, in words
        self.trainings: list[TrainingRun] = []
        # of `trained_from`, in its canonical order
        self.training_rows: dict[TrainedIdentity, np.ndarray] = {}
        # the pool, or lessons made of it
        self.trained_from: dict[TrainedIdentity, TrainingRows] = {}
        self._memo: dict[str, dict[str, np.ndarray]] = {}
        self._labels: dict[str, str] = {}
        self._trained: dict[TrainedModel, TrainedIdentity] = {}
        self._opened: tuple[ModelIdentity | TrainedIdentity | None, Any] | None = (
            None  # one model at a time is in memory
        )
        # asked in one pass: memo key -> signal, in order
        self._peers: dict[Hashable, dict[str, SharedSignal]] = {}
        # fingerprint -> keys that were scored for it here, and meanwhile by other processes; DIGEST
        # arrays
        self._scored: dict[str, list[np.ndarray]] = {}
        self._elsewhere: dict[str, list[np.ndarray]] = {}

    def resolve(self, signal: _Row) -> _Row:
        """The signal with each model that is to be trained replaced by its identity: the one the
        store knows it by.

        The signal's inputs, among them the training rows, must have been computed.
        """
        found = {
            name: self._identity(model, signal.kind)
            for name, model in models_to_train(signal).items()
        }
        return dataclasses.replace(signal, **found) if found else signal  # type: ignore[type-var]

    def _identity(self, model: TrainedModel, name: str) -> TrainedIdentity:
        """Settled once: rows that fail later were trained on all the same."""
        if model in self._trained:
            return self._trained[model]
        chosen = self._memo[memo_key(model.rows)]["chosen"] & self.active
        rows, digest = self.order[chosen], self.digest[chosen]
        source: TrainingRows = self.pool
        if model.lessons is not None:
            values = {
                key: self._memo[memo_key(inner)] for key, inner in model.lessons.inputs().items()
            }
            known = Columns(
                self.digest, self.ties, self.source, self.pool.source_names, values
            ).take(chosen)
            source = LessonPool(self.pool, rows, model.lessons, known)
            rows, digest = source.order, source.digest
        if not len(rows):
            raise ConfigError(
                f"{name} needs a model that is trained first, and there is nothing to train it on."
            )
        identity = identity_of(model, digest)
        self.training_rows[identity], self.trained_from[identity] = rows, source
        self._trained[model] = identity
        return identity

    def request(self, signal: RowSignal) -> Request:
        """What is wanted and what is stored of it, for a signal out of `resolve`."""
        asked_of = self.active
        if isinstance(signal, PartSignal):
            asked_of = asked_of & self._memo[memo_key(signal.among)]["chosen"]
        positions = np.flatnonzero(asked_of)
        inputs, fields = signal.inputs(), key_fields(signal)
        values = None
        if fields is not None:
            values = [
                self._memo[memo_key(inputs[name])][field][positions] for name, field in fields
            ]
        return request_of(
            signal, positions, self.digest[positions], values, self.store, self.retry_errors
        )

    def _score_together(
        self,
        signal: SharedSignal,
        label: str,
        request: Request,
        company: Mapping[str, SharedSignal],
    ) -> None:
        """Score what is missing of the signal, and in the same pass what is missing of its
        `company` (by memo key, as declared).

        A pass takes rows that miss the same signals: one pass in most runs, more where capabilities
        were added.
        """
        peers = {key: self.resolve(p) for key, p in company.items()}
        others = [
            p
            for key, p in peers.items()
            if fingerprint(p) != request.fingerprint and key not in self._memo
        ]
        signals = [signal, *others]
        requests = [request, *map(self.request, others)]
        same = all(np.array_equal(r.keys, request.keys) for r in requests)
        assert same, f"{signal.kind!r} is asked together with signals of other inputs"
        todo = np.stack([r.todo for r in requests])
        patterns, which = np.unique(todo, axis=1, return_inverse=True)
        for i in range(patterns.shape[1]):
            missing = np.flatnonzero(patterns[:, i])
            if not len(missing):
                continue
            rows = which.reshape(-1) == i
            asked_now = [signals[j] for j in missing.tolist()]
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            self._score(asked_now, label + more, dataclasses.replace(request, todo=rows))

    def _score(self, signals: Sequence[RowSignal], label: str, request: Request) -> None:
        """Score what is missing of `signals` (several: of one `together()`), sharing the rows with
        other processes.

        Every complete piece goes to the store at once.
        """
        known = ~request.todo & (request.errors != "")
        failures: Counter[str] = Counter()
        for error, rows in zip(request.errors[known], request.rows[known], strict=True):
            failures[error] += int(rows)
        self.check(failures)  # before a model is opened
        fingerprints = [self.store.register(s) for s in signals]
        entries = image_order(self.pool, self.digest, request, np.flatnonzero(request.todo))
        inputs = signals[0].inputs()
        given = None
        if inputs:
            whole = {name: self._memo[memo_key(inner)] for name, inner in inputs.items()}
            known_rows = Columns(self.digest, self.ties, self.source, self.pool.source_names, whole)
            given = known_rows.take(request.first[entries])

        labels = [self._labels.get(memo_key(s), label) for s in signals]
        first = None if self.force else FirstRows(signals, labels)
        backend: Any = None
        shown, waited, kept = False, 0.0, 0

        def samples(at: np.ndarray) -> Sequence[Sample]:
            return self.pool.samples(self.order[request.first[entries[at]]])

        def keep(at: np.ndarray, pieces: list[Scored]) -> None:
            nonlocal kept
            kept += len(at)
            for fp, one, piece in zip(fingerprints, signals, pieces, strict=True):
                self.store.append(
                    fp, one.fields, request.keys[entries[at]], piece.values, piece.errors
                )
            share.finished(at)
            if first is not None:
                first.add(pieces)
            for i, of_row in enumerate(zip(*(piece.errors for piece in pieces), strict=True)):
                # a row fails once: with its first error
                if error := next(filter(None, of_row), ""):
                    failures[error] += int(request.rows[entries[at[i]]])
            self.check(failures)

        def ready() -> None:
            nonlocal backend, shown
            if signals[0].needs is not Capability.NONE:
                backend = self.backend(asked(signals[0]))
            if not shown and self.progress is not None:
                self.progress.start(
                    label, len(request.keys), len(request.keys) - int((~share.done).sum())
                )
            shown = True

        def waiting(rows: int) -> None:
            nonlocal shown
            if self.progress is None:
                return
            if shown:
                self.progress.finish()
            shown = False
            self.progress.say(
                f"{label}: waiting for {pluralize(rows)} that other processes are scoring."
            )

        def blocks(flush: Callable[[], None]) -> np.ndarray | None:
            nonlocal waited
            asked_at = time.monotonic()
            try:
                return share.next(ready, flush)
            finally:
                waited += time.monotonic() - asked_at

        def opened() -> Any:
            return backend

        advance = None if self.progress is None else self.progress.advance
        model = asked(signals[0])
        paid = isinstance(model, ModelIdentity) and model.served
        patience = SERVED_FLUSH_SECONDS if paid else local.FLUSH_SECONDS
        columns = [(fp, one.fields) for fp, one in zip(fingerprints, signals, strict=True)]
        tried = request.errors[entries] != ""
        share = Share(self.store, columns, request.keys[entries], tried, waiting)
        began = time.monotonic()
        try:
            with share:
                local.score(
                    signals,
                    samples,
                    blocks,
                    given,
                    opened,
                    self.pool,
                    keep,
                    advance,
                    flush_seconds=patience,
                )
        finally:
            if shown and self.progress is not None:
                self.progress.finish()
            self.notes += [text for text in getattr(backend, "notes", ()) if text not in self.notes]
            for fp in fingerprints:
                self.store.record_cost(
                    fp, kept, (time.monotonic() - began - waited) / len(fingerprints)
                )
                self._scored.setdefault(fp, []).append(share.keys[share.mine])
                self._elsewhere.setdefault(fp, []).append(share.keys[share.elsewhere])

    def backend(self, of: ModelIdentity | TrainedIdentity | None = None) -> Any:
        """The model of this identity (None: the main one), opened; one that thresher trains is
        trained now if it is not kept in the store. Raises ConfigError without a model, and what
        training or opening it raises.
        """
        handle = self.handle(of)
        if self._opened is None or self._opened[0] != of:
            self._opened = None
            if isinstance(of, TrainedIdentity):
                rows, source = self.training_rows[of], self.trained_from[of]
                handle = trained_model(
                    of, handle, source, rows, self.store, self.trainer, self.progress
                )
            self._opened = (of, handle.open())
        return self._opened[1]

    def close(self) -> None:
        """Let go of the model that is open."""
        self._opened = None

    def handle(self, of: ModelIdentity | TrainedIdentity | None = None) -> ModelHandle:
        """What the user named for this identity; of a trained model, its base. Raises ConfigError
        where it is missing."""
        base = of.base if isinstance(of, TrainedIdentity) else of
        found = self.model if base is None else self.handles.get(base, self.model)
        if found is None:
            raise ConfigError(
                "This method asks a model about the rows. Name one: --model with a folder, a hub "
                "id, or demo."
            )
        return found

    def _note_trainings(self, signal: RowSignal, label: str) -> None:
        """What the model behind the signal cost, whenever it was trained."""
        identity = asked(signal)
        if isinstance(identity, TrainedIdentity) and all(
            t.fingerprint != fingerprint(identity) for t in self.trainings
        ):
            rows = len(self.training_rows[identity])
            self.trainings.append(TrainingRun.read(self.store, identity, label, rows))
