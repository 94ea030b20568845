"""What a run would cost, before it starts: rows that are not in the store yet, passes, tokens,
hours, memory.

Reads the pool and the store. Scores nothing, except that 64 rows go through the model to measure it
(`probe`), and their results are discarded. A signal whose inputs are not known yet gets an upper
bound, and the plan says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from thresher.console.formatting import pluralize
from thresher.console.peak_memory import device_peak_bytes
from thresher.engine import AUTO_LIMIT, RunContext, create_engine
from thresher.engine.graph import (
    needs_model,
    signals_of,
    target_signals_of,
)
from thresher.errors import opt, spelled
from thresher.mixture import ResolvedMixture, SignalScores, resolve_mixture
from thresher.request import RunRequest
from thresher.request.spelling import as_flag
from thresher.selection.cost import (
    Measuring,
    RowCost,
)
from thresher.selection.devices import scoring_devices
from thresher.selection.saving import Saving
from thresher.selection.signal_plan import PlannedSignals, SignalPlan, plan_signals
from thresher.selection.target import check
from thresher.selection.task import SelectionTask
from thresher.selection.training_cost import TrainingProbe
from thresher.selection.training_plan import (
    TrainingPlan,
    training_notes,
)
from thresher.storage.columns import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thresher.pools import Pool

NOTHING_LEFT = "nothing is left to score"
QUERY_MODES = {
    "packed": "All questions about a row run in one pass.",
    "batched": (
        "The questions about a row run as a batch on its encoding: this model cannot take them in "
        "one sequence exactly."
    ),
    "full": (
        "Every question about a row is a whole pass: this model cannot reuse a row's encoding "
        "exactly."
    ),
}


Memory = Literal["process", "device"]
"""What `Plan.peak_bytes` is the memory of."""


@dataclass(frozen=True)
class Plan:
    """A run. Sums are upper bounds if one of the signals is."""

    method: str
    model: str | None
    pool_rows: int
    usable_rows: int
    left_out: int  # rows known to be unusable already
    budget: int  # rows selected
    share: float  # budget / pool rows: relative to training on the pool
    saved: float  # 1 - share
    signals: tuple[SignalPlan, ...]
    trainings: tuple[TrainingPlan, ...]  # () = no model is trained
    to_score: int
    passes: int
    requests: int  # to servers
    tokens: int | None
    devices: int  # that score at the same time; models are trained on one of them
    hours: float | None  # scoring on all devices, then training; opening models is not included
    least_hours: float | None  # of these, what does not depend on scores that are not there yet
    peak_bytes: int | None  # most memory of one process, or of one GPU if GPUs are used
    scoring_bytes: int | None  # of these, without training
    memory: Memory
    upper_bound: bool
    row_seconds: float | None  # one pass over a row; None: nothing was measured
    row_tokens: float | None  # of a row, images included; None: nothing is left to score
    basis: str  # where tokens and hours come from, as text
    notes: tuple[str, ...]

    @property
    def saving(self) -> Saving:
        """The remaining cost of selecting, compared with the training time that the subset
        saves."""
        asked = (
            self.model is not None or any(p.passes for p in self.signals) or bool(self.trainings)
        )
        return Saving(
            self.pool_rows,
            self.budget,
            self.hours and 3600 * self.hours,
            # the user's training is assumed to run on all devices, too
            self.row_seconds and self.row_seconds / self.devices,
            model=asked,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values under the field names, and what selecting costs and saves."""
        return asdict(self) | {"saving": self.saving.to_json()}


def plan(
    task: SelectionTask, context: RunContext, *, probe: bool = True, count_images: bool = False
) -> Plan:
    """What `select` of the same task would do (of several rounds, the first).

    `probe=False` opens no model.

    Arguments:
        task: what to select, and from what.
        context: store and models.
        probe: whether the model may be opened and measured.
        count_images: without `probe`, count the tokens of some images with the model's processor
            instead of assuming them.

    Raises ConfigError for what `select` would refuse, and what opening the model raises.
    """
    how: Measuring = "model" if probe else "processor" if count_images else "text"
    pool, method, model = task.pool, task.method, context.model
    context = replace(context, progress=None)
    # a plan reports columns that mean nothing instead of stopping at them
    wanted = replace(task.request, force=True)
    resolved = resolve_mixture(pool, task.budget, wanted, context, score=False)
    budget = resolved.budget
    signals = signals_of(method, context, task.request.seed, budget)
    request = replace(wanted, on_missing="exclude")
    engine = create_engine(
        pool,
        signals,
        request,
        context,
        within=resolved.within,
        is_aside=resolved.is_unscorable,
    )
    resolved.check_always_taken(engine.eligible.pool_rows_aside, scored=False)
    training_probe = TrainingProbe(engine, context) if how == "model" else None
    parts, costs, trainings = plan_signals(engine, signals, how, training_probe)
    other_costs: list[RowCost] = []
    if task.target is not None and check(method, task.target, context):
        target_signals = target_signals_of(method, context, request.seed)
        target_engine = create_engine(task.target, target_signals, request, context)
        added, more_costs, _ = plan_signals(target_engine, target_signals, how)
        parts = (*(replace(p, label=f"validation {p.label}") for p in added), *parts)
        other_costs = list(more_costs.values())
    if request.dedup == "semantic":
        added, more_costs, _ = _embedding(pool, resolved, request, context, how)
        if any(p.to_score for p in added):
            parts = tuple(replace(p, upper_bound=p.to_score > 0) for p in parts)
        parts = (*added, *parts)
        other_costs += more_costs.values()
    if resolved.scores is not None:
        added, more_costs, _ = _of_options(pool, resolved.scores, request, context, how)
        shared = {p.fingerprint for p in added}
        parts = tuple(p for p in parts if p.fingerprint not in shared)
        if any(p.to_score for p in added):
            parts = tuple(replace(p, upper_bound=p.to_score > 0) for p in parts)
        parts = (*added, *parts)
        other_costs += more_costs.values()
    every = [*other_costs, *costs.values()]
    scoring_bytes = _most([c.peak_bytes for c in every])
    devices = scoring_devices(request)
    if devices > 1:
        parts = tuple(replace(p, hours=p.hours and p.hours / devices) for p in parts)

    eligible = engine.eligible
    usable = int(eligible.mask.sum())
    failed = sum(len(f.errors) for f in (*eligible.failed, *resolved.failed))
    aside = sum(map(len, eligible.set_aside))
    selected = min(budget, usable + resolved.n_outside_method(aside))
    notes = training_notes(trainings, len(pool))
    notes += [] if training_probe is None else training_probe.problems
    if engine.faults and not task.request.force:
        notes.append(
            f"The stored scores of {pluralize(len(engine.faults), 'signal')} mean nothing, so "
            f"`select` stops unless {opt('force', True)} is given. {engine.faults[0]}."
        )
    if failed > eligible.considered // AUTO_LIMIT:
        notes.append(
            f"{failed:,} of {eligible.considered:,} rows cannot be used: more than 5%, so `select` "
            f"stops unless {opt('on_missing', 'exclude')} is given. See `thresher doctor`."
        )
    elif failed:
        notes.append(
            f"{failed:,} of {eligible.considered:,} rows cannot be used and will be left out."
        )
    if context.model is not None and context.model.identity.adapter:
        notes.append(
            f"{context.model.name} {context.model.identity.limit}: one row at a time, and each "
            "demonstration or question with the whole row."
        )
    notes += dict.fromkeys(QUERY_MODES[c.query_mode] for c in every if c.query_mode)
    requests = sum(p.passes for p in parts if p.served)
    if requests:
        notes.append(
            f"{requests:,} request{'' if requests == 1 else 's'} to a server, one for each "
            "question about a row, each of its losses and each of its embeddings; repeated ones, "
            "and those that locate answers, are not counted."
        )
    notes += resolved.plan_notes(aside)
    if selected < budget:
        notes.append(
            f"{pluralize(selected)} instead of {budget:,}: there are no more that can be used."
        )
    return Plan(
        method=method.name,
        model=model.name
        if model is not None and (needs_model(signals) or resolved.scores is not None)
        else None,
        pool_rows=len(pool),
        usable_rows=usable,
        left_out=failed,
        budget=selected,
        share=selected / len(pool),
        saved=1 - selected / len(pool),
        signals=parts,
        trainings=trainings,
        to_score=sum(p.to_score for p in parts),
        passes=sum(p.passes for p in parts),
        requests=requests,
        devices=devices,
        memory="process" if device_peak_bytes() is None else "device",
        tokens=_total([p.tokens for p in parts]),
        hours=_total(
            [*(p.hours for p in parts), *(t.hours for t in trainings if t.rows is not None)]
        ),
        least_hours=_total(
            [
                *(p.hours for p in parts if not p.conditional),
                *(t.hours for t in trainings if t.rows is not None and not t.upper_bound),
            ]
        ),
        peak_bytes=_most([scoring_bytes, *(t.peak_bytes for t in trainings)]),
        scoring_bytes=scoring_bytes,
        upper_bound=any(p.upper_bound for p in parts),
        row_seconds=_row_seconds(context.store, parts, every),
        row_tokens=next((c.tokens for c in every if c.tokens), None),
        basis="; ".join(dict.fromkeys(c.basis for c in every if c.basis)) or NOTHING_LEFT,
        notes=tuple(spelled(text, as_flag) for text in notes),
    )


def left_to_score(parts: Iterable[SignalPlan], usable: int) -> str:
    """How many rows a run that was stopped has still to score, as text.

    Arguments:
        parts: the signals of the run.
        usable: rows that can be used.
    """
    rows = max((part.to_score for part in parts), default=0)
    return f"{pluralize(rows)} of {usable:,} {'is' if rows == 1 else 'are'} left to score."


def _row_seconds(
    store: Store, parts: Sequence[SignalPlan], prices: Sequence[RowCost]
) -> float | None:
    """Of one pass over a row by the model on this machine: measured now, or noted when rows were
    scored."""
    if any(p.served for p in parts):
        return None
    now = [price.seconds for price in prices if price.seconds]
    before = [store.cost(p.fingerprint) for p in parts if p.signal == "answer_loss"]
    return next((seconds for seconds in (*now, *before) if seconds and seconds > 0), None)


def _embedding(
    pool: Pool, resolved: ResolvedMixture, request: RunRequest, context: RunContext, how: Measuring
) -> PlannedSignals:
    """The signals of `--dedup semantic`, which are computed before the method's."""
    from thresher.duplicates.stage import embedding_signal

    signal = embedding_signal(context.embedder)
    engine = create_engine(
        pool,
        {"dedup": signal},
        replace(request, retry_errors=False),
        context,
        within=resolved.compared,
    )
    return plan_signals(engine, {"dedup": signal}, how)


def _of_options(
    pool: Pool, scores: SignalScores, request: RunRequest, context: RunContext, how: Measuring
) -> PlannedSignals:
    """The signals of filters, quotas and `--drop-suspects`: computed before the method's."""
    engine = create_engine(pool, scores.signals, request, context, within=scores.rows)
    return plan_signals(engine, scores.signals, how)


def _total(values: list[Any]) -> Any:
    return None if any(v is None for v in values) else sum(values)


def _most(values: Iterable[int | None]) -> int | None:
    return max((v for v in values if v is not None), default=None)
