"""Select, train, evaluate, repeat: the loop of error-driven tuning. Each round selects for what the
student still gets wrong.

Yao et al., arXiv:2412.15652, repeat error collection on the tuned student. Here the budget is split
over the rounds; the student of a round is the given model trained on all rows selected so far,
which is how the user trains in the end. Students are kept in the store
(`training.registry`) and trained once. A round may take no row that an earlier one took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.console.formatting import pluralize
from thresher.engine.workers import wait_until
from thresher.errors import CapabilityError, ConfigError, opt
from thresher.methods.error_driven import TEACHER
from thresher.mixture import budget_exceeds_pool
from thresher.selection import select as run
from thresher.selection.result import Outcome
from thresher.selection.target import check, leaks
from thresher.selection.task import SelectionTask
from thresher.training.registry import (
    TrainingRun,
    is_trained,
    trained_identity,
    trained_model,
)
from thresher.types import Budget, Findings, Method, Note, Rows, Tokens, TrainedModel

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.engine import RunContext
    from thresher.training.recipe import Recipe


def shares(budget: int, rounds: int) -> list[int]:
    """Rows of each round, as equal as possible; early rounds get the remainder.

    Arguments:
        budget: number of rows.
        rounds: number of rounds, at least 1.

    >>> shares(10, 3)
    [4, 3, 3]
    """
    return [budget // rounds + (r < budget % rounds) for r in range(rounds)]


def select(task: SelectionTask, context: RunContext, recipe: Recipe | None = None) -> Outcome:
    """As `select.select`, in as many rounds as the request names (None or 1: one selection).

    Arguments:
        task: what to select, and from what.
        context: store and models.
        recipe: of the students; None: the default.

    The outcome is that of all rounds: rows in the order of the rounds, `round` among the reasons (1
    = first; 0: not selected), the findings of the first round, each round's error rate in
    `summary["rounds"]`. Stops early if the student makes no mistakes; the rest of the budget is not
    used. Raises also ConfigError and CapabilityError if there is no student to train.
    """
    pool, request, rounds = task.pool, task.request, task.request.rounds
    if rounds is None or rounds == 1:
        return run.select(task, context)
    student = _trainable(task, context)
    target, store, seed = task.target, context.store, request.seed
    assert target is not None
    repeated, leaked = leaks(pool, target, request.on_leak or "refuse", context.progress)
    excluded = repeated
    done: list[Outcome] = []
    trainings: list[TrainingRun] = []
    if isinstance(task.budget, Tokens):
        raise ConfigError(
            " divides a number of rows or a share; a budget in tokens cannot be divided.",
            option="rounds",
        )
    requested = task.budget.rows(len(pool))
    current = student
    for number, share in enumerate(shares(requested, rounds), 1):
        if share == 0:
            break
        if done:
            rows = np.concatenate([o.rows for o in done])
            identity = trained_identity(_student(student, recipe, seed), pool.digest[rows])
            if context.workers is not None:
                wait_until(partial(is_trained, store, identity), context.workers)
            current = trained_model(
                identity,
                student,
                pool,
                np.sort(rows),
                store,
                context.trainer,
                context.progress,
                context.meter.add_training,
            )
            trainings.append(TrainingRun.read(store, identity, f"round {number}", len(rows)))
            # without a teacher, the untrained student judges in every round
            context = replace(context, roles={TEACHER: student, **context.roles})
        part = replace(task, budget=Rows.of(share), leaks_checked=True, excluded=excluded)
        outcome = run.select(part, replace(context, model=current))
        nothing_wrong = outcome.findings is not None and not outcome.findings.summary["wrong"]
        if done and nothing_wrong:
            text = f"In round {number} the student made no mistakes: the rounds end here."
            done[-1].notes.append(Note("round", text))
            break
        # in the first round: nothing to train for, so the budget is used as in a single round
        if nothing_wrong:
            done.append(run.select(replace(part, budget=Rows.of(requested)), context))
            break
        # a row that failed in the first round stays excluded, even if a later round could read it
        if not done:
            excluded = np.setdiff1d(np.arange(len(pool)), outcome.considered)
        done.append(outcome)
        excluded = np.concatenate([excluded, outcome.rows])
    notes = [
        Note(kind, text)
        for kind, text in (
            ("mixture", budget_exceeds_pool(task.budget, len(pool))),
            ("leak", leaked),
        )
        if text
    ]
    return _together(done, trainings, task.budget, requested, student, notes)


def no_errors(method: Method, rounds: int | None = None) -> ConfigError:
    """The error for rounds of a method that needs no target set.

    Arguments:
        method: the method.
        rounds: as given.
    """
    own = f", or {opt('settings.rounds', 2)} for rounds of {method.name}"
    return ConfigError(
        f": {method.name} looks at no errors. Give {opt('method', 'error_driven')}"
        f"{own if hasattr(method, 'rounds') else ''}.",
        option="rounds",
        value=rounds,
    )


def _trainable(task: SelectionTask, context: RunContext) -> ModelHandle:
    method, model = task.method, context.model
    if not check(method, task.target, context):
        raise no_errors(method)
    if model is None:
        raise ConfigError(
            f" trains the model between the rounds. Name one: {opt('model', 'demo')}, a folder or "
            "a hub id.",
            option="rounds",
        )
    if model.identity.limit:
        raise CapabilityError(
            f" trains the model between the rounds, and {model.name!r} {model.identity.limit}. "
            f"Give weights that can be trained: {opt('model')} with a folder or a hub id. (The "
            "teacher may be behind a server.)",
            option="rounds",
        )
    if task.request.mixture:
        raise ConfigError(
            " works without quotas and filters so far. Apply them first and give the "
            "subset as the pool.",
            option="rounds",
        )
    return model


def _student(model: ModelHandle, recipe: Recipe | None, seed: int) -> TrainedModel:
    from thresher.signals.seed_rows import SeedRows
    from thresher.training.recipe import Recipe as Default

    return TrainedModel(model.identity, recipe or Default(seed=seed), SeedRows(1.0, seed))


def _together(
    done: list[Outcome],
    trainings: list[TrainingRun],
    budget: Budget,
    requested: int,
    student: ModelHandle,
    notes: list[Note],
) -> Outcome:
    """One outcome of all rounds. Reasons of a row are those of the round that took it; of the
    others, the first round's."""
    first = done[0]
    place = {int(row): i for i, row in enumerate(first.considered.tolist())}
    evidence = {name: values.copy() for name, values in first.evidence.items()}
    evidence["round"] = np.zeros(len(first.considered), np.int32)
    for number, outcome in enumerate(done, 1):
        at = np.array([place[r] for r in outcome.rows.tolist()], np.int64)
        for name, values in outcome.reason.items():
            evidence[name][at] = values
        evidence["round"][at] = number
    rows = np.concatenate([o.rows for o in done])
    at = np.array([place[r] for r in rows.tolist()], np.int64)
    for number, outcome in enumerate(done, 1):
        notes += [Note("round", f"Round {number}: {note.text}") for note in outcome.notes]
    if len(rows) < requested:
        text = f"{pluralize(len(rows))} instead of {requested:,} were selected."
        notes.append(Note("fewer-rows", text))
    return replace(
        first,
        recipe=replace(
            first.recipe, budget=budget.text, model=student.name, identity=student.identity
        ),
        rows=rows,
        reason={name: values[at] for name, values in evidence.items()},
        evidence=evidence,
        signals=[
            replace(s, label=f"round {k}: {s.label}")
            for k, o in enumerate(done, 1)
            for s in o.signals
        ],
        notes=notes,
        budget=requested,
        trainings=trainings,
        cost=sum(o.cost for o in done) + sum(t.seconds for t in trainings),
        findings=_findings(done),
    )


def _findings(done: list[Outcome]) -> Findings | None:
    """The first round's, with each round's counts; a record says in which rounds its row was
    wrong."""
    found = [o.findings for o in done if o.findings is not None]
    if not found:
        return None
    wrong_in: dict[int, list[int]] = {}
    for number, findings in enumerate(found, 1):
        for record in findings.rows:
            wrong_in.setdefault(int(record["row"]), []).append(number)
    counts = [
        {"round": k, "rows": f.summary["rows"], "wrong": f.summary["wrong"]}
        for k, f in enumerate(found, 1)
    ]
    records: dict[int, Mapping[str, Any]] = {}
    for number, findings in enumerate(found, 1):
        for record in findings.rows:
            row = int(record["row"])
            records.setdefault(row, {**record, "round": number, "wrong_in_rounds": wrong_in[row]})
    return Findings(
        {**found[0].summary, "rounds": counts}, tuple(records[row] for row in sorted(records))
    )
