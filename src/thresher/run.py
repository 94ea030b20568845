"""The whole job in memory: pool, method and budget in, the chosen rows and the reasons out.

`select` asks the method for its signals, has them computed (what is stored is loaded), and lets the method do its
arithmetic. Writes nothing but scores into the store; `output` writes the selection.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.compute import Computation, OnMissing, SignalRun, begin, commonest
from thresher.mixture import Mixture, settled_for
from thresher.progress import counted
from thresher.signal_graph import needs_model, signals_of
from thresher.signals.one_shot import OneShot
from thresher.store import Store
from thresher.targeted import OnLeak, aim, check, leaks
from thresher.trained import Trainer, TrainingRun
from thresher.types import Budget, Columns, Findings, Method, ModelIdentity, Selection, Signal

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools import Pool
    from thresher.progress import Progress

__all__ = ["Column", "Failure", "Outcome", "Recipe", "SignalRun", "TrainingRun", "compute", "select"]


@dataclass(frozen=True)
class Failure:
    """A row that was left out, and why."""

    row: int  # in the pool
    id: str  # JSON text, as `Sample.id`
    digest: str  # 64 hexadecimal digits
    signal: str  # the label of the signal that failed; "pool": known from reading the pool
    error: str


@dataclass(frozen=True)
class Recipe:
    """What was asked for, resolved: enough to ask for it again."""

    method: str
    settings: Mapping[str, Any]  # every setting of the method, defaults included
    budget: str
    seed: int
    model: str | None
    identity: ModelIdentity | None
    store: Path
    on_missing: OnMissing
    roles: Mapping[str, tuple[str, ModelIdentity]] = field(default_factory=dict)  # role -> name, identity
    mixture: Mixture = field(default_factory=Mixture)
    validation: tuple[str, str | None] | None = None  # what opens the set that was aimed at again, and its image folder


@dataclass
class Outcome:
    """A selection and everything that explains it."""

    recipe: Recipe
    rows: np.ndarray  # int64 [k], pool rows, best first
    reason: dict[str, np.ndarray]  # name -> array [k], beside `rows`
    signals: list[SignalRun]  # row signals in the order they were computed
    failures: list[Failure]  # by pool row
    notes: list[str]  # what the user should know, in words
    budget: int  # rows asked for; more than len(rows) only with a note
    excluded: int  # rows that could not be used: len(failures)
    considered: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # int64 [c], pool rows the method saw
    evidence: dict[str, np.ndarray] = field(default_factory=dict)  # name -> array [c]: `reason` of all those
    trainings: list[TrainingRun] = field(default_factory=list)  # models that were trained for a signal
    unasked: dict[str, int] = field(default_factory=dict)  # label -> distinct rows of which the model was asked nothing
    cost: float = 0.0  # seconds that this selection takes from nothing: scoring and training count also when reused
    findings: Findings | None = None  # of a method that aims at a validation set
    copies: np.ndarray | None = None  # int64 [c, 2]: rows left out by --dedup, and the row that stands for each


@dataclass(frozen=True)
class Column:
    """One signal over the whole pool, in pool order, [n] each."""

    values: dict[str, np.ndarray]  # field -> array; meaningful where `known`
    known: np.ndarray  # bool
    errors: np.ndarray  # object, str: why a row is not known, "" where it is


def select(
    pool: Pool,
    method: Method,
    budget: Budget,
    *,
    seed: int = 0,
    model: ModelHandle | None = None,
    store: Store,
    on_missing: OnMissing = "auto",
    retry_errors: bool = False,
    progress: Progress | None = None,
    trainer: Trainer | None = None,
    usable_only: bool = False,
    roles: Mapping[str, ModelHandle] | None = None,
    target: Pool | None = None,
    on_leak: OnLeak | None = "refuse",
    taken: np.ndarray | None = None,
    mixture: Mixture | None = None,
) -> Outcome:
    """Choose `budget` rows of `pool`. The result depends on the set of records, method, budget, seed and model only.

    A share is taken of all rows of the pool. `on_missing`: what to do about rows that cannot be scored (auto: leave
    them out while they are at most 5% of the pool; exclude: always; refuse: never). `retry_errors`: score rows again
    whose failure is stored. `trainer`: how a model is trained where a method needs that (None: `training.fit` on the best
    device). `usable_only`: leave out rows that no model can take even if the method asks none. `roles`: the further models
    of a `RolesMethod`, by role. `target`: the set that a `TargetMethod` aims at; rows of the pool that repeat its questions
    are an error, or leave (`on_leak` drop; None: the caller has looked). `taken`: rows that are not to be chosen again.
    `mixture`: quotas, rows that are kept or left out.

    Raises ConfigError, TooManyFailures, StoreError, and what opening the model raises.
    """
    began = time.monotonic()
    settled = settled_for(mixture, pool, budget, store, seed, progress)
    signals = signals_of(method, model, roles or {}, seed, settled.budget)
    computation = begin(
        pool,
        signals,
        store,
        seed,
        model,
        on_missing,
        retry_errors,
        progress,
        trainer,
        usable_only,
        roles,
        settled.within,
        settled.aside,
    )
    leaked, gone = "", np.zeros(0, np.int64) if taken is None else taken
    if target is not None and on_leak is not None and check(method, target, model, roles or {}):
        repeated, leaked = leaks(pool, target, on_leak, progress)
        gone = np.union1d(gone, repeated)
    if len(gone):
        computation.active[np.isin(computation.order, gone)] = False
        settled = settled.without(gone)
    aimed = aim(method, target, store, seed, model, on_missing, retry_errors, progress, roles or {})
    columns = computation.columns(signals)

    def ask(given: Columns, k: int) -> Selection:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(b"%d|%s" % (seed, method.name.encode())).digest()))
        answer = (aimed or method).select(given, k, rng)
        _check_selection(method, answer, given, k)
        return answer

    chosen = settled.choose(ask, columns, computation.order[computation.active], computation.aside_rows())
    considered = chosen.considered
    place = np.zeros(len(pool), np.int64)
    place[considered] = np.arange(len(considered))
    at = place[chosen.rows]
    evidence = dict(chosen.evidence)
    if chosen.weights is not None:
        evidence["weight"] = _spread(chosen.weights, at, len(considered))
    failures = [f for f in _failures(computation) if not settled.keep[f.row]]
    recipe = Recipe(
        method=method.name,
        settings={f.name: getattr(method, f.name) for f in dataclasses.fields(method)},  # type: ignore[arg-type]
        budget=budget.text,
        seed=seed,
        model=None if model is None else model.name,
        identity=None if model is None else model.identity,
        store=store.root,
        on_missing=on_missing,
        roles={role: (handle.name, handle.identity) for role, handle in (roles or {}).items()},
        mixture=settled.mixture,
        validation=None if aimed is None else (aimed.pool.spec, aimed.pool.images),
    )
    outcome = Outcome(
        recipe=recipe,
        rows=chosen.rows,
        reason={name: a[at] for name, a in evidence.items()},
        signals=[*([] if aimed is None else aimed.runs), *computation.runs],
        failures=failures,
        notes=[],
        budget=settled.budget if settled.counts is None else len(chosen.rows),
        excluded=len(failures),
        considered=considered,
        evidence=evidence,
        trainings=computation.trainings,
        unasked=_unasked(signals, columns),
        findings=chosen.findings,
        copies=settled.copies,
    )
    outcome.notes += _notes(outcome, computation, needs_model(signals))
    outcome.notes += ([leaked] if leaked else []) + ([] if aimed is None else aimed.notes)
    outcome.notes += [*settled.notes, *chosen.notes]
    arithmetic = time.monotonic() - began - sum(s.seconds for s in outcome.signals)
    models = sum(t.seconds for t in outcome.trainings)
    outcome.cost = max(arithmetic, 0.0) + models + sum(s.cost for s in outcome.signals)
    return outcome


def compute(
    signal: Signal,
    pool: Pool,
    *,
    store: Store,
    seed: int = 0,
    model: ModelHandle | None = None,
    on_missing: OnMissing = "auto",
    retry_errors: bool = False,
    progress: Progress | None = None,
    trainer: Trainer | None = None,
) -> Column:
    """One signal of every row, scored where it is not stored. Raises as `select` does."""
    name = signal.name
    return compute_all({name: signal}, pool, store, seed, model, on_missing, retry_errors, progress, trainer)[name]


def compute_all(
    signals: Mapping[str, Signal],
    pool: Pool,
    store: Store,
    seed: int,
    model: ModelHandle | None,
    on_missing: OnMissing,
    retry_errors: bool,
    progress: Progress | None,
    trainer: Trainer | None = None,
    roles: Mapping[str, ModelHandle] | None = None,
    within: np.ndarray | None = None,
) -> dict[str, Column]:
    """Several signals as `select` computes them: each one's rows are those still active when its turn came.

    `within`: bool [n], the rows that are considered at all; the others are not known.
    """
    computation = begin(
        pool, signals, store, seed, model, on_missing, retry_errors, progress, trainer, roles=roles, within=within
    )
    n = len(pool)
    back = np.empty(n, dtype=np.int64)
    back[computation.order] = np.arange(n)
    out: dict[str, Column] = {}
    computation.name(signals)
    for name, signal in signals.items():
        values = computation.column(signal, name)
        errors = np.full(n, "", dtype=object)
        for positions, _, texts in computation.failed:
            errors[positions] = texts
        out[name] = Column({f: a[back] for f, a in values.items()}, computation.active[back], errors[back])
    return out


def _check_selection(method: Method, chosen: Selection, columns: Columns, k: int) -> None:
    rows, n, where = chosen.rows, len(columns), f"method {method.name!r}"
    assert rows.ndim == 1 and rows.dtype == np.int64, f"{where} must give rows as int64 [k]"
    assert len(rows) <= k, f"{where} gave {len(rows)} rows for a budget of {k}"
    assert len(rows) == 0 or (rows.min() >= 0 and rows.max() < n), f"{where} gave a row outside its columns"
    assert len(np.unique(rows)) == len(rows), f"{where} gave a row twice"
    for name, array in chosen.reason.items():
        assert len(array) == n, f"{where}: reason {name!r} has {len(array)} values for {n} rows"


def _unasked(signals: Mapping[str, Signal], columns: Columns) -> dict[str, int]:
    """Rows (exact duplicates once) of which the model was asked nothing, because no demonstration is there, or fits."""
    out = {}
    for label, signal in signals.items():
        if isinstance(signal, OneShot):
            rows = len(np.unique(columns.digest[np.isnan(columns[label]["nll"])]))
            if rows:
                out[label] = rows
    return out


def _spread(values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    out = np.zeros(n, dtype=np.asarray(values).dtype)
    out[rows] = values
    return out


def _failures(computation: Computation) -> list[Failure]:
    if not computation.failed:
        return []
    positions = np.concatenate([p for p, _, _ in computation.failed])
    labels = [label for p, label, _ in computation.failed for _ in range(len(p))]
    errors = [e for _, _, texts in computation.failed for e in texts]
    rows = computation.order[positions]
    by_row = np.argsort(rows)
    ids = computation.pool.ids(rows[by_row])
    digests = np.ascontiguousarray(computation.digest[positions]).tobytes()
    return [
        Failure(int(rows[i]), ids[j], digests[32 * i : 32 * i + 32].hex(), labels[i], errors[i])
        for j, i in enumerate(by_row.tolist())
    ]


def _notes(outcome: Outcome, computation: Computation, needs: bool) -> list[str]:
    notes = list(computation.notes)
    n = len(computation.order)
    if outcome.failures:
        reasons = commonest(Counter(f.error for f in outcome.failures))
        notes.append(f"{outcome.excluded:,} of {n:,} rows could not be used and were left out: {reasons}.")
    if not needs:
        missing = int(computation.pool.facts["missing_images"].sum())
        if missing:
            point = "points at an image that does" if missing == 1 else "point at images that do"
            notes.append(f"{counted(missing)} {point} not exist; see `thresher doctor`.")
    if len(outcome.rows) < outcome.budget:
        if len(outcome.considered) < outcome.budget:
            why = f"only {counted(len(outcome.considered))} could be used, and all were taken"
        else:
            why = "the method found no more"
        notes.append(f"{counted(len(outcome.rows))} instead of {outcome.budget:,}: {why}.")
    for path in computation.store.damaged:
        notes.append(f"A damaged part of the store was set aside as {path}; its rows were scored again where needed.")
    return notes
