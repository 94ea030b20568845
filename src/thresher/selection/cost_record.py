"""What a run was predicted to take and what it took, side by side: the section `cost` of run.yaml.

`plan` keeps its prediction in the store (`STORE/plans/KEY.json`), under the identity of the
request, its rows, its models and its devices. A run of the same request finds it there. Where there
is none, the prediction is what the run itself estimated from the first rows of each pass; if no
pass was long enough for that, there is none.

A run that neither scores nor trains anything has no section of its own: `folder` leaves the one
that is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.console.peak_memory import device_peak_bytes, peak_bytes
from thresher.selection.record import key_of_run
from thresher.storage.atomic import write_bytes
from thresher.text import parse_json

if TYPE_CHECKING:
    from thresher.engine import RunContext
    from thresher.selection.plan import Plan
    from thresher.selection.signal_plan import SignalPlan
    from thresher.selection.task import SelectionTask
    from thresher.selection.training_plan import TrainingPlan
    from thresher.storage.columns import Store

FOLDER = "plans"  # in the store
PLAN, FIRST_ROWS = "plan", "first rows"  # where a prediction comes from
DIGITS = 3  # of seconds
DEVICE_OPTIONS = ("device", "devices", "engine", "ray_workers", "batch_tokens")


@dataclass(frozen=True)
class Cost:
    """What a run takes, predicted or measured. None: not known.

    scores: values that are scored.
    scoring_seconds: of the passes over the rows, on all devices together.
    training_seconds: of the models that the method trains.
    requests: to servers.
    peak_bytes: most memory that was in use.
    """

    scores: int
    scoring_seconds: float | None
    training_seconds: float | None
    requests: int | None
    peak_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain values by name, seconds rounded to milliseconds."""
        return {
            name: round(value, DIGITS) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Cost:
        """The inverse of `to_json`. Raises KeyError for a value that is missing."""
        return cls(**{f.name: found[f.name] for f in fields(cls)})


@dataclass(frozen=True)
class Prediction:
    """What a plan predicts. at_most: with what is needed only if the scores call for it; None:
    there is nothing of this kind."""

    cost: Cost
    at_most: Cost | None

    @classmethod
    def of(cls, plan: Plan) -> Prediction:
        """The prediction of a plan."""
        every = _cost(plan, plan.signals, plan.trainings)
        certain = _cost(
            plan,
            [s for s in plan.signals if not s.conditional],
            [t for t in plan.trainings if not t.upper_bound],
        )
        return cls(certain, every if every != certain else None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        more = {} if self.at_most is None else {"at_most": self.at_most.to_json()}
        return self.cost.to_json() | more

    @classmethod
    def read(cls, path: Path) -> Prediction | None:
        """The prediction in a file; None if there is none, or none that can be read."""
        try:
            found = parse_json(path.read_bytes())
            more = found.get("at_most")
            return cls(Cost.read(found), None if more is None else Cost.read(more))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _cost(plan: Plan, signals: Sequence[SignalPlan], trainings: Sequence[TrainingPlan]) -> Cost:
    return Cost(
        scores=sum(s.to_score for s in signals),
        scoring_seconds=_seconds([s.hours for s in signals]),
        training_seconds=_seconds([t.hours for t in trainings]),
        requests=sum(s.passes for s in signals if s.served),
        peak_bytes=max(
            (b for b in (plan.scoring_bytes, *(t.peak_bytes for t in trainings)) if b is not None),
            default=None,
        ),
    )


def _seconds(hours: list[float | None]) -> float | None:
    known = [h for h in hours if h is not None]
    return 3600 * sum(known, 0.0) if len(known) == len(hours) else None


def keep_prediction(plan: Plan, task: SelectionTask, context: RunContext) -> None:
    """Keep what a plan predicts for the run of the same request. A prediction that measured nothing
    is not kept.

    Arguments:
        plan: of the task.
        task: what the run would select.
        context: the store and the models.

    Raises StoreError if the store cannot be written.
    """
    prediction = Prediction.of(plan)
    if prediction.cost.scoring_seconds is None or not plan.to_score:
        return
    path = _path(context.store, task, context)
    write_bytes(path, json.dumps(prediction.to_json()).encode())


def cost_section(
    task: SelectionTask, context: RunContext, seconds: float, requests: int
) -> dict[str, Any] | None:
    """The section `cost` of a run that has ended; None if it neither scored nor trained anything.

    Arguments:
        task: what was selected.
        context: of the run, with its meter.
        seconds: from the start of the selection to its end.
        requests: that were sent to servers.
    """
    meter = context.meter
    if meter.idle:
        return None
    planned = Prediction.read(_path(context.store, task, context))
    predicted: dict[str, Any] | None = None
    if planned is not None:
        predicted = {"by": PLAN, **planned.to_json()}
    elif meter.estimated_scores:
        estimated = Cost(meter.estimated_scores, meter.estimated_seconds, None, None, None)
        predicted = {"by": FIRST_ROWS, **estimated.to_json()}
    device = device_peak_bytes()
    measured = Cost(
        meter.scores,
        meter.scoring_seconds,
        meter.training_seconds,
        requests,
        peak_bytes() if device is None else device,
    )
    return {
        "predicted": predicted,
        "measured": {
            **measured.to_json(),
            "waiting_seconds": round(meter.waiting_seconds, DIGITS),
            "seconds": round(seconds, DIGITS),
        },
        "memory": "process" if device is None else "device",
    }


def _path(store: Store, task: SelectionTask, context: RunContext) -> Path:
    key = key_of_run(task.request, task.method, task.pool, context)
    text = json.dumps([key, *(getattr(task.request, name) for name in DEVICE_OPTIONS)])
    return store.root / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
