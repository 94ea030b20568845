"""What a run would cost, before it is paid: rows that are not in the store yet, passes, tokens, hours, memory.

Reads the pool and the store. Scores nothing, except that 64 rows go through the model to measure it (`probe`), and
their results are thrown away. A signal whose inputs are not known yet gets an upper bound, and the plan says so.

A row behind a demonstration is priced as its own: tokens are the row's, and the demonstration's once for each one shown
(for each row where the model cannot share its encoding); seconds are measured, because the row's tokens also attend to
the demonstration's. The 64 rows are then scored behind one of them, too.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thresher.compute import AUTO_LIMIT, Computation, begin
from thresher.engines.local import ROWS_PER_CALL
from thresher.fingerprint import fingerprint
from thresher.progress import counted, duration
from thresher.signal_graph import memo_key, needs_model, signals_of, unlabelled
from thresher.store import Store
from thresher.trained import is_trained
from thresher.types import Budget, Capability, Method, RowSignal, Sample, SampleSource, Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.backends import ModelHandle
    from thresher.pools import Pool

PROBE_ROWS = 64
TRAINING_PASSES = 3  # a training step on a row against scoring it: forward, and backward at twice its cost
TOKENS_PER_WORD = 1.4  # English text under common tokenizers
TOKENS_PER_IMAGE = 576  # LLaVA-1.5's; from 64 (SmolVLM) to several thousand (anyres)


class ProbeResult(Protocol):
    """What a backend measured on some rows."""

    @property
    def seconds(self) -> float: ...  # of scoring them once, warm
    @property
    def tokens(self) -> int: ...  # that passed the language model, images included
    @property
    def peak_bytes(self) -> int: ...  # most memory held, the model included


class Probing(Protocol):
    """A backend that can be measured."""

    def probe(self, samples: Sequence[Sample], pool: SampleSource) -> ProbeResult: ...


@dataclass(frozen=True)
class SignalPlan:
    """One row signal. Rows are distinct keys: exact duplicates count once."""

    label: str
    signal: str
    fingerprint: str
    wanted: int
    stored: int
    to_score: int
    upper_bound: bool  # its rows depend on scores that are not there yet: at most this many
    passes: int  # rows through the model
    tokens: int | None  # estimated
    hours: float | None  # estimated; None: nothing was measured


@dataclass(frozen=True)
class TrainingPlan:
    """One model that would be trained first."""

    fingerprint: str
    rows: int
    passes: float  # over these rows
    hours: float | None  # estimated from scoring; None: nothing was measured


@dataclass(frozen=True)
class Plan:
    """The whole run. Sums are upper bounds where one of the signals is."""

    method: str
    model: str | None
    pool_rows: int
    usable_rows: int
    left_out: int  # rows known to be unusable already
    budget: int  # rows selected
    share: float  # budget / pool rows: of the training time of the whole pool
    saved: float  # 1 - share
    signals: tuple[SignalPlan, ...]
    trainings: tuple[TrainingPlan, ...]  # () = no model is trained
    to_score: int
    passes: int
    tokens: int | None
    hours: float | None
    peak_bytes: int | None
    upper_bound: bool
    basis: str  # where tokens and hours come from, in words
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values under the field names."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Cost:
    """Of one row through the model: `seconds` alone, `seconds_shown` behind a demonstration that is encoded already or,
    where the model cannot share its encoding (`reuses_prefix`), together with it.
    """

    tokens: float | None
    seconds: float | None
    peak_bytes: int | None
    basis: str
    reuses_prefix: bool = False
    seconds_shown: float | None = None

    def of(self, rows: int) -> tuple[float | None, float | None]:
        """(tokens, seconds) of so many rows."""
        return _times(self.tokens, rows), _times(self.seconds, rows)

    def of_shown(self, rows: int, demonstrations: int) -> tuple[float | None, float | None]:
        """(tokens, seconds) of so many rows behind so many different demonstrations, each as long as a row."""
        whole = rows + (demonstrations if self.reuses_prefix else rows)
        seconds = _times(self.seconds, whole)  # by tokens alone, where nothing was measured behind a demonstration
        if self.seconds_shown is not None and self.seconds is not None:
            seconds = self.seconds_shown * rows + (self.seconds * demonstrations if self.reuses_prefix else 0)
        return _times(self.tokens, whole), seconds


def plan(
    pool: Pool,
    method: Method,
    budget: Budget,
    model: ModelHandle | None,
    store: Store,
    *,
    seed: int = 0,
    retry_errors: bool = False,
    probe: bool = True,
) -> Plan:
    """What `select` with the same arguments would do. `probe=False` opens no model.

    Raises ConfigError for what `select` would refuse, and what opening the model raises.
    """
    wanted = budget.rows(len(pool))
    signals = signals_of(method, model, seed, wanted)
    computation = begin(pool, signals, store, seed, model, "exclude", retry_errors, None)
    looked = _look(computation, unlabelled(signals))
    due = any(to_score for _, _, to_score, _ in looked.values())
    model_rows = sum(to_score for signal, _, to_score, _ in looked.values() if signal.needs is not Capability.NONE)
    shown = any(to_score and _shows(signal) for signal, _, to_score, _ in looked.values())
    cost = _cost(computation, model_rows, probe, shown)
    parts = tuple(_signal_plan(label, *found, cost) for label, found in looked.items())

    active = int(computation.active.sum())
    selected = min(wanted, active)
    trainings = _trainings(computation, cost) if due else ()
    notes = [
        f"A model will be trained first, on {counted(t.rows)} ({t.rows / len(pool):.1%} of the pool, {t.passes:g} "
        f"pass{'es' if t.passes != 1 else ''}"
        + ("" if t.hours is None else f", about {duration(3600 * t.hours)} if a step costs three times a scored row")
        + "). It is kept in the store."
        for t in trainings
    ]
    if len(pool) - active > len(pool) // AUTO_LIMIT:
        notes.append(
            f"{len(pool) - active:,} of {len(pool):,} rows cannot be used: more than 5%, so `select` stops unless told "
            "--on-missing exclude. See `thresher doctor`."
        )
    elif active < len(pool):
        notes.append(f"{len(pool) - active:,} of {len(pool):,} rows cannot be used and will be left out.")
    if selected < wanted:
        notes.append(f"{counted(selected)} instead of {wanted:,}: there are no more that can be used.")
    return Plan(
        method=method.name,
        model=model.name if model is not None and needs_model(signals) else None,
        pool_rows=len(pool),
        usable_rows=active,
        left_out=len(pool) - active,
        budget=selected,
        share=selected / len(pool),
        saved=1 - selected / len(pool),
        signals=parts,
        trainings=trainings,
        to_score=sum(p.to_score for p in parts),
        passes=sum(p.passes for p in parts),
        tokens=_total([p.tokens for p in parts]),
        hours=_total([*(p.hours for p in parts), *(t.hours for t in trainings)]),
        peak_bytes=cost.peak_bytes,
        upper_bound=any(p.upper_bound for p in parts),
        basis=cost.basis,
        notes=tuple(notes),
    )


def _look(computation: Computation, signals: dict[str, Signal]) -> dict[str, tuple[RowSignal, int, int, bool]]:
    """label -> (signal, wanted, to score, upper bound). Complete columns are loaded: what needs them is then exact."""
    known: dict[str, bool] = {}  # whether all values are there
    out: dict[str, tuple[RowSignal, int, int, bool]] = {}
    computation.name(signals)
    for label, declared in signals.items():  # inputs come first
        signal = declared
        ready = all(known[memo_key(inner)] for inner in signal.inputs().values())
        if isinstance(signal, RowSignal):
            if ready:
                signal = computation.resolve(signal)
                request = computation.request(signal)
                to_score = int(request.todo.sum())
                out[label] = (signal, len(request.keys), to_score, False)
                ready = to_score == 0
            else:
                rows = int(computation.active.sum())
                out[label] = (signal, rows, rows, True)
        if ready:
            computation.column(declared, label)
        known[memo_key(declared)] = ready
    return out


def _signal_plan(label: str, signal: RowSignal, wanted: int, to_score: int, bound: bool, cost: _Cost) -> SignalPlan:
    passes = 0 if signal.needs is Capability.NONE else to_score
    tokens, seconds = cost.of_shown(passes, _demonstrations(signal, passes)) if _shows(signal) else cost.of(passes)
    return SignalPlan(
        label=label,
        signal=signal.name,
        fingerprint=fingerprint(signal),
        wanted=wanted,
        stored=wanted - to_score,
        to_score=to_score,
        upper_bound=bound,
        passes=passes,
        tokens=None if tokens is None else round(tokens),
        hours=None if seconds is None else seconds / 3600,
    )


def _shows(signal: RowSignal) -> bool:
    """Whether each row stands behind a demonstration: its inputs say which."""
    return signal.needs is not Capability.NONE and bool(signal.inputs().keys() - {"trained_on"})


def _demonstrations(signal: RowSignal, rows: int) -> int:
    """How often a demonstration is encoded, at most: the bank of each half, once in each call of the engine."""
    banks = sum(2 * int(getattr(inner, "bank", 0)) for inner in signal.inputs().values())
    return min(banks * -(-rows // ROWS_PER_CALL), rows)


def _trainings(computation: Computation, cost: _Cost) -> tuple[TrainingPlan, ...]:
    """The models that scoring would have to train: those asked for that are not in the store."""
    out = []
    for identity, rows in computation.training_rows.items():
        if is_trained(computation.store, identity):
            continue
        passes = float(getattr(identity.recipe, "epochs", 1.0))
        seconds = None if cost.seconds is None else TRAINING_PASSES * passes * len(rows) * cost.seconds
        hours = None if seconds is None else seconds / 3600
        out.append(TrainingPlan(fingerprint(identity), len(rows), passes, hours))
    return tuple(out)


def _cost(computation: Computation, to_score: int, probe: bool, shown: bool) -> _Cost:
    if to_score == 0:
        return _Cost(0.0, 0.0, None, "nothing is left to score")
    pool = computation.pool
    usable = np.flatnonzero(computation.active)
    chosen = usable[np.argsort(computation.ties[usable], kind="stable")[:PROBE_ROWS]]  # a fair draw
    samples = pool.samples(computation.order[chosen])
    if probe:
        backend = computation.backend()
        if hasattr(backend, "probe"):
            measured = backend.probe(samples, pool)
            n = len(samples)
            reuses = bool(getattr(backend, "reuses_prefix", False))
            behind = _seconds_shown(backend, samples, pool) / n if shown and hasattr(backend, "one_shot") else None
            basis = f"measured on {n} rows"
            return _Cost(measured.tokens / n, measured.seconds / n, measured.peak_bytes, basis, reuses, behind)
    words = sum(len(turn.text.split()) for sample in samples for turn in sample.turns)
    images = sum(len(sample.images) for sample in samples)
    tokens = (TOKENS_PER_WORD * words + TOKENS_PER_IMAGE * images) / len(samples)
    basis = (
        f"counted on {len(samples)} rows: {TOKENS_PER_WORD} tokens a word and {TOKENS_PER_IMAGE} an image; "
        "the model was not measured, so hours and memory are not known"
    )
    return _Cost(tokens, None, None, basis)


def _seconds_shown(backend: Any, samples: Sequence[Sample], pool: SampleSource) -> float:
    """Of scoring `samples` behind one of them, warm."""
    seconds = 0.0
    for _ in range(2):  # once to warm up, once to measure
        began = time.perf_counter()
        for _ in backend.one_shot(samples, [samples[0]] * len(samples), pool):
            continue
        seconds = time.perf_counter() - began
    return seconds


def _times(each: float | None, count: int) -> float | None:
    return None if each is None else each * count


def _total(values: list[Any]) -> Any:
    return None if any(v is None for v in values) else sum(values)
