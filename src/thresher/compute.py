"""From signals to columns: what is stored is loaded, what is missing is scored, and rows that fail leave.

Inputs come first and each distinct signal once. All arrays here are in the pool's canonical order ("positions"), so
nothing depends on the order of the file. Ties pools, store, engine and backend together; `run` and `plan` use it.

Past 400 lines because the steps of one `Computation` share its state: active rows, columns computed, accounts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from thresher.engines import local
from thresher.errors import ConfigError, StoreError, TooManyFailures
from thresher.fingerprint import fingerprint
from thresher.lesson_pool import LessonPool
from thresher.signal_graph import asked, memo_key, models_to_train, needs_model, walk
from thresher.store import Store
from thresher.together import Together
from thresher.trained import Trainer, TrainingRun, identity_of, trained_model
from thresher.types import (
    DIGEST,
    Capability,
    Columns,
    FactSignal,
    ModelIdentity,
    PartSignal,
    PoolSignal,
    RowSignal,
    Sample,
    SharedSignal,
    Signal,
    TrainedIdentity,
    TrainedModel,
    TrainingRows,
    digests_to_array,
    seeded_ties,
)

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools import Pool
    from thresher.progress import Progress

OnMissing = Literal["auto", "exclude", "refuse"]
_Row = TypeVar("_Row", bound=RowSignal)
AUTO_LIMIT = 20  # auto: at most one row in 20 may fail
SERVED_FLUSH_SECONDS = 2.0  # answers of a server may be paid for: a kill must not cost many


@dataclass(frozen=True)
class SignalRun:
    """What one row signal cost. All counts are distinct keys (exact duplicates count once)."""

    name: str
    label: str  # the name the method gave it, "outer.inner" for an input
    fingerprint: str
    wanted: int
    scored: int  # now, by the model
    failed: int  # of those wanted, now or before
    seconds: float
    cost: float = 0.0  # seconds that scoring all those wanted takes, as far as it was measured, now or before

    @property
    def reused(self) -> int:
        """Rows that were in the store already."""
        return self.wanted - self.scored


@dataclass(frozen=True)
class Request:
    """What a row signal wants of the store: one entry a distinct key, [m], sorted by key."""

    fingerprint: str
    keys: np.ndarray  # DIGEST [m]
    first: np.ndarray  # int64 [m]: the first position with this key
    rows: np.ndarray  # int64 [m]: how many rows of the pool share it
    positions: np.ndarray  # int64 [a]: active positions …
    inverse: np.ndarray  # int64 [a]: … and the entry of each
    values: dict[str, np.ndarray]
    errors: np.ndarray
    todo: np.ndarray  # bool [m]: not stored yet, or failed and to be tried again


class Computation:
    """Columns of one pool under one store. `active` (bool [n], canonical order) only ever shrinks.

    Raises TooManyFailures as soon as more rows have failed than `on_missing` allows: auto 5% of the pool, refuse none.
    """

    def __init__(
        self,
        pool: Pool,
        store: Store,
        *,
        seed: int = 0,
        model: ModelHandle | None = None,
        roles: Mapping[str, ModelHandle] | None = None,
        on_missing: OnMissing = "auto",
        retry_errors: bool = False,
        progress: Progress | None = None,
        trainer: Trainer | None = None,
        within: np.ndarray | None = None,
        aside: Callable[[str], bool] | None = None,
    ) -> None:
        if on_missing not in ("auto", "exclude", "refuse"):
            raise ConfigError(f"--on-missing {on_missing} is unknown. Give auto, exclude or refuse.")
        self.pool, self.store, self.model = pool, store, model
        self.handles = {handle.identity: handle for handle in (roles or {}).values()}
        if model is not None:
            self.handles[model.identity] = model
        self.on_missing, self.retry_errors, self.progress = on_missing, retry_errors, progress
        self.trainer = trainer
        self.order: np.ndarray = pool.order
        self.digest: np.ndarray = pool.digest[self.order]
        self.source: np.ndarray = pool.source[self.order]
        self.ties = seeded_ties(self.digest, seed)
        self.active = np.ones(len(pool), dtype=bool) if within is None else within[self.order]
        self.rows = int(self.active.sum())  # that were there to begin with
        self.aside = aside or _none
        self.set_aside: list[np.ndarray] = []  # positions
        self.failed: list[tuple[np.ndarray, str, list[str]]] = []  # positions, signal label, errors
        self.runs: list[SignalRun] = []
        self.notes: list[str] = []  # what the models' backends have to say, in words
        self.trainings: list[TrainingRun] = []
        self.training_rows: dict[TrainedIdentity, np.ndarray] = {}  # of `trained_from`, in its canonical order
        self.trained_from: dict[TrainedIdentity, TrainingRows] = {}  # the pool, or lessons made of it
        self._reasons: Counter[str] = Counter()
        self._memo: dict[str, dict[str, np.ndarray]] = {}
        self._labels: dict[str, str] = {}
        self._trained: dict[TrainedModel, TrainedIdentity] = {}
        self._opened: tuple[ModelIdentity | TrainedIdentity | None, Any] | None = (
            None  # one model at a time is in memory
        )
        self._peers: dict[Hashable, dict[str, SharedSignal]] = {}  # asked in one pass: memo key -> signal, in order
        self._scored: dict[str, int] = {}  # fingerprint -> keys that a pass for a peer has scored already

    # ------------------------------------------------------------------------------------------ rows that leave

    def exclude(self, positions: np.ndarray, label: str, errors: list[str]) -> None:
        """Take rows out of the active set because of `errors` (one a position). Raises TooManyFailures.

        Rows that are not in it stay unmentioned; those whose error is one for `aside` are no failures.
        """
        there = self.active[positions]
        mine = np.fromiter((self.aside(e) for e in errors), bool, len(errors))
        self.set_aside.append(positions[there & mine])
        at = np.flatnonzero(there & ~mine)
        self.active[positions] = False
        if not len(at):
            return
        errors = [errors[i] for i in at.tolist()]
        self.failed.append((positions[at], label, errors))
        self._reasons.update(errors)
        self.check()

    def check(self, more: Counter[str] | None = None) -> None:
        """Raise TooManyFailures if the rows that left, and `more` (error -> rows), are more than is allowed."""
        reasons = self._reasons + Counter({e: rows for e, rows in (more or Counter()).items() if not self.aside(e)})
        gone, n = reasons.total(), self.rows
        allowed = {"auto": n // AUTO_LIMIT, "refuse": 0, "exclude": n - 1}[self.on_missing]
        if gone <= allowed:
            return
        limit = {
            "auto": "at most 5% may be left out without asking",
            "refuse": "--on-missing refuse allows none",
            "exclude": "no row is left",
        }[self.on_missing]
        do = "" if self.on_missing == "exclude" else ", or go on without these rows: --on-missing exclude"
        raise TooManyFailures(
            f"{gone:,} of {n:,} rows cannot be used ({limit}). Commonest reasons: {commonest(reasons)}. "
            f"Look at them with `thresher doctor`{do}. What was scored is stored."
        )

    def exclude_known_problems(self, needs_model: bool) -> None:
        """Rows that the pool itself knows to be unusable leave before anything is spent.

        A method that needs no model keeps every row that is a record at all; one that needs a model also loses rows
        with a problem or a missing image. Raises TooManyFailures.
        """
        position = np.empty(len(self.order), dtype=np.int64)
        position[self.order] = np.arange(len(self.order))
        problems = self.pool.problems
        rows = sorted(problems) if needs_model else np.flatnonzero(self.pool.unreadable).tolist()
        self.exclude(position[rows], "pool", [problems[r] for r in rows])
        if needs_model:
            gone = np.flatnonzero(self.pool.facts["missing_images"])
            gone = gone[self.active[position[gone]]]
            self.exclude(position[gone], "pool", self.pool.missing_image(gone))

    def aside_rows(self) -> np.ndarray:
        """Pool rows that were set aside, in the order of `ties`."""
        at = np.concatenate(self.set_aside) if self.set_aside else np.zeros(0, np.int64)
        at = at[np.argsort(self.ties[at], kind="stable")]
        return np.asarray(self.order[at])

    # ------------------------------------------------------------------------------------------ columns

    def columns(self, signals: Mapping[str, Signal]) -> Columns:
        """The named columns of the rows that are active once all of them are computed."""
        self.name(signals)
        for name, signal in signals.items():
            self.column(signal, name)
        return self._gather(signals)

    def name(self, signals: Mapping[str, Signal]) -> None:
        """Make these the labels, also where one of them is first met as another's input; note who is asked together."""
        for name, signal in signals.items():
            self._labels.setdefault(memo_key(signal), name)
        for signal in walk(signals):
            if isinstance(signal, SharedSignal):
                self._peers.setdefault(signal.together(), {}).setdefault(memo_key(signal), signal)

    def _gather(self, signals: Mapping[str, Signal]) -> Columns:
        """Already computed columns, active rows only."""
        values = {name: self._memo[memo_key(signal)] for name, signal in signals.items()}
        names = self.pool.source_names
        return Columns(self.digest, self.ties, self.source, names, values).take(self.active)

    def column(self, signal: Signal, label: str) -> dict[str, np.ndarray]:
        """field -> array [n]; meaningful where `active` is true now."""
        memo = memo_key(signal)
        if memo in self._memo:
            return self._memo[memo]
        label = self._labels.setdefault(memo, label)
        for name, inner in signal.inputs().items():
            self.column(inner, f"{label}.{name}")
        if isinstance(signal, RowSignal):
            out = self._row_signal(signal, label)
        elif isinstance(signal, PoolSignal):
            out = self._scatter(signal, signal.pool(self._gather(signal.inputs())), np.flatnonzero(self.active))
        elif isinstance(signal, FactSignal):
            whole = signal.facts(self.pool.facts)
            out = self._scatter(signal, {f: a[self.order] for f, a in whole.items()}, np.arange(len(self.order)))
        else:
            raise TypeError(f"{type(signal).__qualname__} has none of `rows`, `pool` and `facts`: it is not a signal")
        self._memo[memo] = out
        return out

    def _scatter(
        self, signal: Signal, values: Mapping[str, np.ndarray], positions: np.ndarray
    ) -> dict[str, np.ndarray]:
        out = {}
        for f in signal.fields:
            assert len(values[f.name]) == len(positions), f"signal {signal.name!r}: field {f.name!r} has a wrong length"
            out[f.name] = np.zeros(len(self.order), dtype=np.asarray(values[f.name]).dtype)
            out[f.name][positions] = values[f.name]
        return out

    # ------------------------------------------------------------------------------------------ row signals

    def resolve(self, signal: _Row) -> _Row:
        """The signal with each model that is to be trained replaced by its identity: the one the store knows it by.

        The signal's inputs, among them the training rows, must have been computed.
        """
        found = {name: self._identity(model, signal.name) for name, model in models_to_train(signal).items()}
        return dataclasses.replace(signal, **found) if found else signal  # type: ignore[type-var]

    def _identity(self, model: TrainedModel, name: str) -> TrainedIdentity:
        """Settled once: rows that fail later were trained on all the same."""
        if model in self._trained:
            return self._trained[model]
        chosen = self._memo[memo_key(model.rows)]["chosen"] & self.active
        rows, digest = self.order[chosen], self.digest[chosen]
        source: TrainingRows = self.pool
        if model.lessons is not None:
            values = {key: self._memo[memo_key(inner)] for key, inner in model.lessons.inputs().items()}
            known = Columns(self.digest, self.ties, self.source, self.pool.source_names, values).take(chosen)
            source = LessonPool(self.pool, rows, model.lessons, known)
            rows, digest = source.order, source.digest
        if not len(rows):
            raise ConfigError(f"{name} needs a model that is trained first, and there is nothing to train it on.")
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
        keys = self._keys(signal, positions)
        unique, first, inverse, rows = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        fp = fingerprint(signal)
        values, errors, found = self.store.load(fp, signal.fields, unique)
        todo = ~found | ((errors != "") & self.retry_errors)
        return Request(fp, unique, positions[first], rows, positions, inverse, values, errors, todo)

    def _keys(self, signal: RowSignal, positions: np.ndarray) -> np.ndarray:
        """The store's keys, DIGEST [m]: the row's digest, or sha256(digest + the input values that matter)."""
        inputs = signal.inputs()
        digest = self.digest[positions]
        if not inputs:
            return digest
        every = tuple((name, f.name) for name, inner in inputs.items() for f in inner.fields)
        parts = [digest]
        for name, field in getattr(type(signal), "key_fields", every):
            parts.append(self._memo[memo_key(inputs[name])][field][positions])
        table = np.hstack([_as_bytes(p) for p in parts])
        return digests_to_array([hashlib.sha256(row).digest() for row in table])

    def _row_signal(self, signal: RowSignal, label: str) -> dict[str, np.ndarray]:
        began = time.monotonic()
        company = self._peers.get(signal.together(), {}) if isinstance(signal, SharedSignal) else {}
        signal = self.resolve(signal)
        request = self.request(signal)
        scored = int(request.todo.sum())
        if scored and isinstance(signal, SharedSignal):
            self._score_together(signal, label, request, company)
        elif scored:
            self._score(signal, label, request)
        if scored:
            values, errors, found = self.store.load(request.fingerprint, signal.fields, request.keys)
            if not found.all():
                raise StoreError(
                    f"{int((~found).sum()):,} rows of {label} were scored but are no longer in "
                    f"{self.store.folder(request.fingerprint)}: were files removed or damaged meanwhile? "
                    "Run the same command again."
                )
        else:
            values, errors = request.values, request.errors
        bad = errors != ""
        seconds = time.monotonic() - began
        scored += self._scored.pop(request.fingerprint, 0)
        wanted = len(request.keys)
        cost = wanted * self.store.cost(request.fingerprint)
        self.runs.append(
            SignalRun(signal.name, label, request.fingerprint, wanted, scored, int(bad.sum()), seconds, cost)
        )
        self._note_trainings(signal, label)
        out = self._scatter(signal, {f: a[request.inverse] for f, a in values.items()}, request.positions)
        if isinstance(signal, PartSignal):
            blank(out, request.positions)
        gone = bad[request.inverse]
        self.exclude(request.positions[gone], label, errors[request.inverse[gone]].tolist())
        return out

    def _score_together(
        self, signal: SharedSignal, label: str, request: Request, company: Mapping[str, SharedSignal]
    ) -> None:
        """Score what is missing of the signal, and in the same pass what is missing of its `company` (by memo key, as declared).

        A pass takes rows that miss the same signals: one pass in most runs, more where capabilities were added.
        """
        peers = {key: self.resolve(p) for key, p in company.items()}
        others = [p for key, p in peers.items() if fingerprint(p) != request.fingerprint and key not in self._memo]
        signals = [signal, *others]
        requests = [request, *map(self.request, others)]
        same = all(np.array_equal(r.keys, request.keys) for r in requests)
        assert same, f"{signal.name!r} is asked together with signals of other inputs"
        todo = np.stack([r.todo for r in requests])
        patterns, which = np.unique(todo, axis=1, return_inverse=True)
        for i in range(patterns.shape[1]):
            missing = np.flatnonzero(patterns[:, i])
            if not len(missing):
                continue
            rows = which.reshape(-1) == i
            asked_now = Together(tuple(signals[j] for j in missing.tolist()))
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            self._score(asked_now, label + more, dataclasses.replace(request, todo=rows))
            for j in missing.tolist():
                if j:
                    fp = requests[j].fingerprint
                    self._scored[fp] = self._scored.get(fp, 0) + int(rows.sum())

    def _score(self, signal: RowSignal | Together, label: str, request: Request) -> None:
        """Score what is missing; every complete piece goes to the store at once."""
        known = ~request.todo & (request.errors != "")
        failures: Counter[str] = Counter()
        for error, rows in zip(request.errors[known], request.rows[known], strict=True):
            failures[error] += int(rows)
        self.check(failures)  # before a model is opened
        columns_of = signal.signals if isinstance(signal, Together) else (signal,)
        fingerprints = [self.store.describe(s) for s in columns_of]
        entries = self._image_order(request, np.flatnonzero(request.todo))
        inputs = signal.inputs()
        given = None
        if inputs:
            whole = {name: self._memo[memo_key(inner)] for name, inner in inputs.items()}
            known_rows = Columns(self.digest, self.ties, self.source, self.pool.source_names, whole)
            given = known_rows.take(request.first[entries])

        kept = 0

        def samples(at: np.ndarray) -> Sequence[Sample]:
            return self.pool.samples(self.order[request.first[entries[at]]])

        def keep(at: np.ndarray, values: dict[str, np.ndarray], errors: list[str]) -> None:
            nonlocal kept
            kept += len(at)
            pieces = signal.split(values) if isinstance(signal, Together) else [(values, errors)]
            for fp, one, (part, wrong) in zip(fingerprints, columns_of, pieces, strict=True):
                self.store.append(fp, one.fields, request.keys[entries[at]], part, wrong)
            for i, error in enumerate(errors):
                if error:
                    failures[error] += int(request.rows[entries[at[i]]])
            self.check(failures)

        backend = self.backend(asked(columns_of[0])) if signal.needs is not Capability.NONE else None
        began = time.monotonic()
        if self.progress is not None:
            self.progress.start(label, len(request.keys), len(request.keys) - len(entries))
        try:
            advance = None if self.progress is None else self.progress.advance
            model = asked(columns_of[0])
            paid = isinstance(model, ModelIdentity) and model.served
            patience = SERVED_FLUSH_SECONDS if paid else local.FLUSH_SECONDS
            local.score(signal, samples, len(entries), given, backend, self.pool, keep, advance, flush_seconds=patience)
        finally:
            if self.progress is not None:
                self.progress.finish()
            self.notes += [text for text in getattr(backend, "notes", ()) if text not in self.notes]
            for fp in fingerprints:
                self.store.note_cost(fp, kept, (time.monotonic() - began) / len(fingerprints))

    def _image_order(self, request: Request, entries: np.ndarray) -> np.ndarray:
        """Entries by (hash of the first image, digest, key): rows of one image become neighbours in any pool order."""
        rows = self.order[request.first[entries]]
        image = np.zeros(len(entries), np.uint64)
        in_file = np.argsort(rows)
        in_file = in_file[self.pool.facts["images"][rows[in_file]] > 0]  # the others need not be read for this
        for start in range(0, len(in_file), local.ROWS_PER_CALL):
            at = in_file[start : start + local.ROWS_PER_CALL]
            for i, sample in zip(at, self.pool.samples(rows[at]), strict=True):
                if sample.images:
                    text = sample.images[0].identity.encode("utf-8", "surrogatepass")
                    image[i] = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
        return entries[np.lexsort((request.keys[entries], self.digest[request.first[entries]], image))]

    def backend(self, of: ModelIdentity | TrainedIdentity | None = None) -> Any:
        """The model of this identity (None: the main one), opened; one that thresher trains is trained now if it is not
        kept in the store. Raises ConfigError without a model, and what training or opening it raises.
        """
        handle = self.handle(of)
        if self._opened is None or self._opened[0] != of:
            self._opened = None
            if isinstance(of, TrainedIdentity):
                rows, source = self.training_rows[of], self.trained_from[of]
                handle = trained_model(of, handle, source, rows, self.store, self.trainer, self.progress)
            self._opened = (of, handle.open())
        return self._opened[1]

    def close(self) -> None:
        """Let go of the model that is open."""
        self._opened = None

    def handle(self, of: ModelIdentity | TrainedIdentity | None = None) -> ModelHandle:
        """What the user named for this identity; of a trained model, its base. Raises ConfigError where it is missing."""
        base = of.base if isinstance(of, TrainedIdentity) else of
        found = self.model if base is None else self.handles.get(base, self.model)
        if found is None:
            raise ConfigError("This method asks a model about the rows. Name one: --model demo, a folder or a hub id.")
        return found

    def _note_trainings(self, signal: RowSignal, label: str) -> None:
        """What the model behind the signal cost, whenever it was trained."""
        identity = asked(signal)
        if isinstance(identity, TrainedIdentity) and all(
            t.fingerprint != fingerprint(identity) for t in self.trainings
        ):
            rows = len(self.training_rows[identity])
            self.trainings.append(TrainingRun.read(self.store, identity, label, rows))


# ---------------------------------------------------------------------------------------------- small things


def begin(
    pool: Pool,
    signals: Mapping[str, Signal],
    store: Store,
    seed: int,
    model: ModelHandle | None,
    on_missing: OnMissing,
    retry_errors: bool,
    progress: Progress | None,
    trainer: Trainer | None = None,
    usable_only: bool = False,
    roles: Mapping[str, ModelHandle] | None = None,
    within: np.ndarray | None = None,
    aside: Callable[[str], bool] | None = None,
) -> Computation:
    """What can be known to fail fails here, before anything is spent.

    `usable_only`: rows that no model can take leave also when no signal asks a model (they are to be trained on).
    `within`: bool [n], pool order, the rows that are considered at all (None: all). `aside(error)`: whether a row that fails
    so is set aside instead of counted as a failure.
    """
    needs = needs_model(signals)
    if needs and model is None and not roles:
        raise ConfigError("This method asks a model about the rows. Name one: --model demo, a folder or a hub id.")
    computation = Computation(
        pool,
        store,
        seed=seed,
        model=model,
        roles=roles,
        on_missing=on_missing,
        retry_errors=retry_errors,
        progress=progress,
        trainer=trainer,
        within=within,
        aside=aside,
    )
    computation.exclude_known_problems(needs or usable_only)
    return computation


def _none(error: str) -> bool:
    return False


def commonest(reasons: Counter[str], most: int = 3) -> str:
    """The commonest, with counts: those that differ in a path or number only are one, shown by an example."""
    groups: Counter[str] = Counter()
    example: dict[str, str] = {}
    for reason, rows in reasons.items():
        group = re.sub(r"\S*[/\\.]\S+|\d+", "…", reason)
        groups[group] += rows
        example[group] = min(example.get(group, reason), reason)
    ranked = sorted(groups, key=lambda g: (-groups[g], g))
    more = f"; and {len(ranked) - most} more kinds" if len(ranked) > most else ""
    return "; ".join(f"{groups[g]:,} × {example[g]}" for g in ranked[:most]) + more


def blank(values: Mapping[str, np.ndarray], positions: np.ndarray) -> None:
    """Where no value is known (all but `positions`): NaN in floats, "" in texts; the rest is zero already."""
    for array in values.values():
        if array.dtype.kind in "fO":
            rest = np.ones(len(array), bool)
            rest[positions] = False
            array[rest] = np.nan if array.dtype.kind == "f" else ""


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """An array [m] -> uint8 [m, width], the same on every machine; text becomes its sha256."""
    if array.dtype.kind == "O":
        array = np.array([hashlib.sha256(str(t).encode("utf-8", "surrogatepass")).digest() for t in array], DIGEST)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(array), array.dtype.itemsize)
