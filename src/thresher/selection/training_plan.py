"""The models that a run would train first: how many, on how many rows, and the estimated time.

Reads the store's records of trained models. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thresher.console.formatting import format_duration, pluralize
from thresher.engine import ColumnEngine
from thresher.engine.graph import model_of, models_to_train
from thresher.fingerprint import fingerprint
from thresher.selection.cost import RowCost
from thresher.selection.saving import TRAINING_PASSES
from thresher.selection.training_cost import MeasureTraining
from thresher.training.registry import is_trained
from thresher.types import (
    ModelIdentity,
    PartSignal,
    RowSignal,
    Signal,
    TrainedIdentity,
    TrainedModel,
)


@dataclass(frozen=True)
class TrainingPlan:
    """One model that would be trained first."""

    fingerprint: str
    rows: int | None  # None: known once columns are there that are not stored yet
    passes: float  # over these rows
    hours: float | None  # None if nothing was measured or rows are not known
    model: str = ""  # that is trained
    upper_bound: bool = False  # whether it is trained depends on scores that are not there yet
    peak_bytes: int | None = None  # most memory; None: not measured
    measured: bool = False  # on some rows; otherwise `hours` are estimated from scoring


def trainings_of(
    engine: ColumnEngine,
    to_score: Iterable[RowSignal],
    costs: Mapping[ModelIdentity | None, RowCost],
    measure: MeasureTraining | None = None,
) -> tuple[TrainingPlan, ...]:
    """The models to train, each once.

    Arguments:
        engine: with the columns that are known.
        to_score: signals that miss rows, resolved where their models are known.
        costs: what a row costs, by model.
        measure: measures a training; None, or where it measures nothing: a step costs three times
            a scored row.
    """
    out: dict[str, TrainingPlan] = {}
    importing = True  # packages are imported by the first training
    for signal in to_score:
        models: list[TrainedIdentity | TrainedModel] = list(models_to_train(signal).values())
        if not models and isinstance(asked := model_of(signal), TrainedIdentity):
            models = [] if is_trained(engine.store, asked) else [asked]
        for model in models:
            rows, passes = _rows(engine, model), float(getattr(model.recipe, "epochs", 1.0))
            cost = costs.get(model.base)
            fp = fingerprint(model)
            if fp in out:
                continue
            found = None if measure is None or not rows else measure(model.base, model.recipe, rows)
            seconds = None
            if rows is not None and found is not None:
                seconds = found.seconds(rows, passes) + importing * found.import_seconds
                importing = False
            elif rows is not None and cost is not None and cost.seconds is not None:
                seconds = TRAINING_PASSES * passes * rows * cost.seconds
            out[fp] = TrainingPlan(
                fp,
                rows,
                passes,
                None if seconds is None else seconds / 3600,
                engine.models.handle(model.base).name,
                not is_certain(engine, signal),
                None if found is None else found.peak_bytes,
                found is not None,
            )
    return tuple(out.values())


def is_certain(engine: ColumnEngine, signal: Signal) -> bool:
    """Whether rows of a signal that has rows to score are needed whatever the missing scores are.

    Arguments:
        engine: with the columns that are known.
        signal: the signal.
    """
    return (
        not isinstance(signal, PartSignal)
        or signal.among in engine.table
        or bool(getattr(signal.among, "certain", False))
    )


def _rows(engine: ColumnEngine, model: TrainedIdentity | TrainedModel) -> int | None:
    """How many rows the model is trained on; None: not known yet."""
    if isinstance(model, TrainedIdentity):
        return len(engine.models.training_sets[model].rows)
    if model.examples is not None:
        return None
    if model.rows in engine.table:
        chosen = engine.table[model.rows]["chosen"] & engine.eligible.mask
        return int(np.count_nonzero(chosen))
    return most_rows(engine, model.rows)


def most_rows(engine: ColumnEngine, chosen: Signal) -> int | None:
    """Maximum number of rows that a signal chooses, if it is known before the signal is computed (a
    field `rows`, or a method `most_rows` of the number of distinct rows).

    Arguments:
        engine: of the pool.
        chosen: the signal.
    """
    usable = engine.eligible.mask
    stated = getattr(chosen, "rows", None)
    if isinstance(stated, int):
        return min(stated, int(usable.sum()))
    if callable(rule := getattr(chosen, "most_rows", None)):
        return int(rule(len(np.unique(engine.numbering.digest[usable]))))
    return None


def training_notes(trainings: Sequence[TrainingPlan], pool_rows: int) -> list[str]:
    """One or two sentences for all models with the same training.

    Arguments:
        trainings: the models that will be trained.
        pool_rows: number of rows of the pool.
    """
    alike: dict[tuple[object, ...], list[TrainingPlan]] = {}
    for t in trainings:
        alike.setdefault((t.rows, t.passes, t.upper_bound, t.measured), []).append(t)
    return [_note(group[0], len(group), pool_rows) for group in alike.values()]


def _note(one: TrainingPlan, count: int, pool_rows: int) -> str:
    each = "" if count == 1 else "each "
    if one.upper_bound:
        who = f"At most {pluralize(count, 'model')} will be trained, if the scores call for it"
    else:
        who = f"{'A model' if count == 1 else pluralize(count, 'model')} will be trained first"
    if one.rows is None:
        return f"{who}; on how many rows is known once those before are scored."
    passes = f"{one.passes:g} pass{'es' if one.passes != 1 else ''}"
    time = (
        ""
        if one.hours is None
        else f", about {format_duration(3600 * one.hours)}"
        + ("" if one.measured else " if a step costs three times a scored row")
    )
    kept = "It is" if count == 1 else "They are"
    return (
        f"{who}, {each}on {pluralize(one.rows)} ({one.rows / pool_rows:.1%} of the pool, {passes}"
        f"{time}). {kept} kept in the store."
    )
