"""A selection up to the point where rows are chosen: its columns are computed, and `choose` may
be called any number of times.

`prepare` is the slow half (signals become columns, rows that fail are excluded),
`ScoredPool.choose` the quick one: arithmetic in memory. Another budget, other settings of a method
that asks for the same columns, or other rows of --keep need the quick half only; `select.select` is
one call of each. Writes scores into the store only.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thresher.console.formatting import pluralize
from thresher.engine import ColumnEngine, RunContext, SignalRun, commonest, create_engine
from thresher.engine.eligible import FailedRows
from thresher.engine.graph import needs_model, signals_of
from thresher.mixture import ResolvedMixture
from thresher.selection.decisions import decisions_of
from thresher.selection.result import LEFT_OUT, Failure, Outcome, Recipe
from thresher.selection.target import TargetSet, aim, check, leaks
from thresher.selection.task import SelectionTask
from thresher.signals.one_shot import OneShot
from thresher.types import Budget, Columns, Method, Note, Selection, Signal


@dataclass(frozen=True)
class ScoredPool:
    """Columns of the rows that can be chosen, and why the others cannot."""

    task: SelectionTask
    context: RunContext
    signals: Mapping[str, Signal]
    engine: ColumnEngine
    columns: Columns  # of the rows that are eligible in `engine`
    aimed: TargetSet | None
    excluded: np.ndarray  # int64 [g], pool rows that must not be chosen, even if --keep names them
    # a note about rows that repeat questions of the validation set; "" if there are none
    leaked: str

    def choose(self, method: Method, budget: Budget, resolved: ResolvedMixture) -> Outcome:
        """Select rows with the scores. Raises ConfigError if quotas and kept rows do not fit the
        budget. `Outcome.cost` is left at 0.

        Arguments:
            method: needs no other signals than `signals`.
            budget: in rows or tokens.
            resolved: of the same pool, budget and rows within.

        Raises ConfigError if quotas and kept rows do not fit the budget. `Outcome.cost` is left
        at 0.
        """
        resolved = resolved.excluding(self.excluded) if len(self.excluded) else resolved
        target = None if self.aimed is None else self.aimed.columns

        def ask(given: Columns, k: int) -> Selection:
            answer = method.select(given, k, target)
            _check(method, answer, given, k)
            return answer

        chosen = resolved.choose(ask, self.columns, self.considered, self.aside)
        considered = chosen.considered
        place = np.zeros(len(self.task.pool), np.int64)
        place[considered] = np.arange(len(considered))
        at = place[chosen.rows]
        evidence = dict(chosen.evidence)
        engine, context = self.engine, self.context
        failures = [*_failures(engine, resolved.failed), *self.failures]
        failures = sorted(failures, key=lambda failure: failure.row)
        failures = [f for f in failures if not resolved.keep[f.row]]
        recipe = Recipe(
            method=method.name,
            settings={f.name: getattr(method, f.name) for f in dataclasses.fields(method)},  # type: ignore[arg-type]
            budget=budget.text,
            request=resolved.request,
            model=None if context.model is None else context.model.name,
            identity=None if context.model is None else context.model.identity,
            store=context.store.address,
            roles={role: (handle.name, handle.identity) for role, handle in context.roles.items()},
            validation=None
            if self.aimed is None
            else (self.aimed.pool.spec, self.aimed.pool.images),
        )
        outcome = Outcome(
            recipe=recipe,
            rows=chosen.rows,
            reason={name: a[at] for name, a in evidence.items()},
            signals=[*([] if self.aimed is None else self.aimed.runs), *_runs(resolved, engine)],
            failures=failures,
            notes=[],
            budget=resolved.budget if resolved.counts is None else len(chosen.rows),
            excluded=len(failures),
            considered=considered,
            evidence=evidence,
            trainings=engine.models.trainings,
            unasked=dict(self.unasked),
            findings=chosen.findings,
            copies=resolved.copies,
            decided=decisions_of(self.signals, self.columns),
        )
        needs = needs_model(self.signals) or bool(resolved.failed)
        outcome.notes += _notes(outcome, engine, needs)
        if self.leaked:
            outcome.notes.append(Note("leak", self.leaked))
        if self.aimed is not None:
            outcome.notes += [Note("validation", text) for text in self.aimed.notes]
        outcome.notes += [Note("mixture", text) for text in resolved.notes]
        outcome.notes += [
            note if isinstance(note, Note) else Note("method", note) for note in chosen.notes
        ]
        return outcome

    @cached_property
    def considered(self) -> np.ndarray:
        """int64 [c]: the pool rows of `columns`."""
        return self.engine.eligible.pool_rows

    @cached_property
    def aside(self) -> np.ndarray:
        """int64 [a]: unscorable pool rows that are not failures, in a seeded order."""
        return self.engine.eligible.pool_rows_aside

    @cached_property
    def failures(self) -> list[Failure]:
        """Every row that was excluded because of an error, by pool row."""
        return _failures(self.engine, self.engine.eligible.failed)

    @cached_property
    def unasked(self) -> dict[str, int]:
        """Rows (exact duplicates once) that were not sent to the model, because there is no
        demonstration or none fits."""
        out = {}
        for label, signal in self.signals.items():
            if isinstance(signal, OneShot):
                rows = len(np.unique(self.columns.digest[np.isnan(self.columns[label]["nll"])]))
                if rows:
                    out[label] = rows
        return out


def prepare(task: SelectionTask, resolved: ResolvedMixture, context: RunContext) -> ScoredPool:
    """Load the stored scores and compute the missing ones. Raises as `select.select`.

    Arguments:
        task: what to select, and from what.
        resolved: filters, quotas and budget of the task.
        context: store and models.
    """
    pool, method, request, target = task.pool, task.method, task.request, task.target
    signals = signals_of(method, context, request.seed, resolved.budget)
    engine = (context.new_engine or create_engine)(
        pool,
        signals,
        request,
        context,
        usable_only=task.usable_only,
        within=resolved.within,
        is_aside=resolved.is_unscorable,
    )
    leaked, excluded = "", np.zeros(0, np.int64) if task.excluded is None else task.excluded
    if target is not None and not task.leaks_checked and check(method, target, context):
        repeated, leaked = leaks(pool, target, request.on_leak or "refuse", context.progress)
        excluded = np.union1d(excluded, repeated)
    engine.eligible.remove(excluded)
    possible = resolved.excluding(excluded) if len(excluded) else resolved
    # what is known of unscorable rows before a model is opened; more may turn out too long
    before = resolved.scores is not None or request.dedup == "semantic"
    possible.check_always_taken(engine.eligible.pool_rows_aside, scored=before)
    aimed = aim(task, context)
    columns = engine.columns(signals)
    return ScoredPool(task, context, signals, engine, columns, aimed, excluded, leaked)


def _check(method: Method, chosen: Selection, columns: Columns, k: int) -> None:
    rows, n, where = chosen.rows, len(columns), f"method {method.name!r}"
    assert rows.ndim == 1 and rows.dtype == np.int64, f"{where} must give rows as int64 [k]"
    assert len(rows) <= k, f"{where} gave {len(rows)} rows for a budget of {k}"
    assert len(rows) == 0 or (rows.min() >= 0 and rows.max() < n), (
        f"{where} gave a row outside its columns"
    )
    seen = np.zeros(n, bool)
    seen[rows] = True
    assert int(seen.sum()) == len(rows), f"{where} gave a row twice"
    for name, array in chosen.reason.items():
        assert len(array) == n, f"{where}: reason {name!r} has {len(array)} values for {n} rows"


def _runs(resolved: ResolvedMixture, engine: ColumnEngine) -> list[SignalRun]:
    """What each signal cost. One that options and method name was scored for the options, of all
    rows that the method asks for."""
    before = [] if resolved.scores is None else list(resolved.scores.runs)
    known = {run.fingerprint for run in before}
    return before + [run for run in engine.runs if run.fingerprint not in known]


def _failures(engine: ColumnEngine, failed: Sequence[FailedRows]) -> list[Failure]:
    numbering = engine.numbering
    if not failed:
        return []
    positions = np.concatenate([f.positions for f in failed])
    labels = [f.label for f in failed for _ in f.errors]
    errors = [e for f in failed for e in f.errors]
    rows = numbering.pool_rows[positions]
    by_row = np.argsort(rows)
    ids = engine.pool.ids(rows[by_row])
    digests = np.ascontiguousarray(numbering.digest[positions]).tobytes()
    return [
        Failure(int(rows[i]), ids[j], digests[32 * i : 32 * i + 32].hex(), labels[i], errors[i])
        for j, i in enumerate(by_row.tolist())
    ]


def _notes(outcome: Outcome, engine: ColumnEngine, needs: bool) -> list[Note]:
    notes = [Note("model", text) for text in engine.models.notes]
    n = len(engine.numbering)
    if outcome.failures:
        reasons = commonest(Counter(f.error for f in outcome.failures))
        text = f"{outcome.excluded:,} of {n:,} rows could not be used and were left out: {reasons}."
        notes.append(Note(LEFT_OUT, text))
    if not needs:
        missing = int(engine.pool.facts["missing_images"].sum())
        if missing:
            point = "points at an image that does" if missing == 1 else "point at images that do"
            text = f"{pluralize(missing)} {point} not exist; see `thresher doctor`."
            notes.append(Note("missing-images", text))
    # `require_rows` reports it
    nothing_new = not len(outcome.rows) and len(outcome.considered) >= outcome.budget
    if len(outcome.rows) < outcome.budget and not nothing_new:
        if len(outcome.considered) < outcome.budget:
            why = f"only {pluralize(len(outcome.considered))} could be used, and all were taken"
        else:
            why = "the method found no more"
        text = f"{pluralize(len(outcome.rows))} instead of {outcome.budget:,}: {why}."
        notes.append(Note("fewer-rows", text))
    for path in engine.store.damaged:
        text = (
            f"A damaged part of the store was set aside as {path}; its rows were scored again "
            "where needed."
        )
        notes.append(Note("store", text))
    return notes
