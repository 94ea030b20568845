"""What each signal of a run would cost: rows that are not in the store yet, passes, tokens, hours.

Reads the pool and the store. A signal whose inputs are not known yet gets an upper bound.

The tokens of a row after a demonstration (one-shot) are those of the row, and once those of each
distinct demonstration (or again for each row, if the model cannot share its encoding). Seconds are
measured, because the row's tokens also attend to the demonstration's: the rows of the probe are
then scored after one of them, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.engine import ColumnEngine
from thresher.engine.graph import memo_key, with_inputs
from thresher.engine.local import ROWS_PER_CALL
from thresher.fingerprint import fingerprint
from thresher.pools.token_estimate import TOKENS_PER_WORD
from thresher.selection.cost import (
    SHORT_ANSWER,
    Measuring,
    RowCost,
    is_bare,
    measure_cost,
    sent_text,
    uses_demonstrations,
)
from thresher.selection.training_cost import TrainingProbe
from thresher.selection.training_plan import TrainingPlan, is_certain, most_rows, trainings_of
from thresher.types import (
    Capability,
    ModelIdentity,
    PartSignal,
    RowSignal,
    SharedSignal,
    Signal,
    StoredPoolSignal,
    TrainedIdentity,
    TrainedModel,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

Looked = tuple[RowSignal, int, int, bool]
"""A signal out of `resolve`, rows needed, rows to score, whether these are an upper bound."""


@dataclass(frozen=True)
class SignalPlan:
    """One row signal. Rows are distinct keys: exact duplicates count once."""

    label: str
    signal: str
    fingerprint: str
    needed: int
    stored: int
    to_score: int
    upper_bound: bool  # its rows depend on missing scores: at most this many
    passes: int  # rows through the model; of one behind a server, requests
    tokens: int | None  # estimated
    hours: float | None  # on all devices, estimated; None: nothing was measured
    conditional: bool = False  # whether it is needed depends on scores that are not there yet
    model: str = ""  # the model that is asked, or the base of one to be trained; "": none
    served: bool = False  # the model is behind a server
    images: bool = True  # the model sees the rows' images
    writes: bool = False  # the model generates text, whose tokens are not counted
    # label of the first of the signals that are asked about a row together; "": it is asked alone
    asked_with: str = ""
    answer_tokens: int = (
        0  # of one answer, which a server charges in addition to `tokens`; estimated
    )


PlannedSignals = tuple[
    tuple[SignalPlan, ...], dict[ModelIdentity | None, RowCost], tuple[TrainingPlan, ...]
]


def plan_signals(
    engine: ColumnEngine,
    signals: Mapping[str, Signal],
    how: Measuring,
    training_probe: TrainingProbe | None = None,
) -> PlannedSignals:
    """The signals, what a row costs with each model, and the models to train.

    Arguments:
        engine: of the rows; closed at the end.
        signals: by label.
        how: what may be opened to measure a row.
        training_probe: measures a training; None: trainings are estimated.
    """
    looked = _look(engine, with_inputs(signals))
    passes = _passes(looked)
    costs = _costs(engine, looked, passes, how)
    first = {
        label: labels[0]
        for labels in _together(looked).values()
        if len(labels) > 1
        for label in labels
    }
    parts = tuple(
        _signal_plan(
            label,
            signal,
            all_rows,
            to_score,
            bound,
            passes[label],
            costs[_model(signal)],
            first.get(label, ""),
            engine.models.handle(_model(signal)).name if passes[label] else "",
            bound and not is_certain(engine, signal),
            _text_tokens(engine, signal),
        )
        for label, (signal, all_rows, to_score, bound) in looked.items()
    )
    engine.close()
    due = [signal for signal, _, to_score, _ in looked.values() if to_score]
    return parts, costs, trainings_of(engine, due, costs, training_probe)


def _look(engine: ColumnEngine, signals: dict[str, Signal]) -> dict[str, Looked]:
    """label -> (signal, needed, to score, upper bound). Complete columns are loaded: what needs
    them is then exact."""
    known: dict[str, bool] = {}  # whether all values are there
    out: dict[str, Looked] = {}
    engine.declare(signals)
    for label, signal in signals.items():  # inputs come first
        ready = all(known[memo_key(inner)] for inner in signal.inputs().values())
        if isinstance(signal, RowSignal):
            if ready:
                request = engine.scoring_request(signal, label)
                to_score = int(request.missing.sum())
                out[label] = (request.signal, len(request.keys), to_score, False)
                ready = to_score == 0
            else:
                rows = _rows_at_most(engine, signal)
                out[label] = (signal, rows, rows, rows > 0)
        elif isinstance(signal, StoredPoolSignal):
            ready = engine.stored(signal) is not None  # a plan computes none
        if ready:
            engine.column(signal, label)
        known[memo_key(signal)] = ready
    return out


def _rows_at_most(engine: ColumnEngine, signal: RowSignal) -> int:
    """How many rows a signal is asked for whose inputs are not all known."""
    asked = engine.eligible.mask  # [n] bool
    most = [len(asked)]
    if isinstance(signal, PartSignal):
        within = getattr(signal.among, "within", None)
        for chosen in (signal.among, within):
            if chosen is not None and chosen in engine.table:
                asked = asked & engine.table[chosen]["chosen"]
            elif chosen is not None and (stated := most_rows(engine, chosen)) is not None:
                most.append(stated)
    return min(int(asked.sum()), *most)


def _model(signal: Signal) -> ModelIdentity | None:
    """The model that determines the cost of this signal: the one that it asks or, if that is not
    trained yet, its base."""
    for value in vars(signal).values():
        if isinstance(value, ModelIdentity):
            return value
        if isinstance(value, (TrainedModel, TrainedIdentity)):
            return value.base
    return None


def _passes(looked: Mapping[str, Looked]) -> dict[str, int]:
    """label -> rows through the model. Of signals asked in one pass, the first of those that lack
    most rows represents all; to a server every question and every embedded part is a request.
    """
    out = {
        label: 0
        if signal.needs is Capability.NONE
        else to_score * (getattr(signal, "requests", 1) if _served(signal) else 1)
        for label, (signal, _, to_score, _) in looked.items()
    }
    for labels in _together(looked).values():
        if not _served(looked[labels[0]][0]):
            payer = max(labels, key=lambda label: looked[label][2])  # the first of equals
            out |= {label: out[label] if label == payer else 0 for label in labels}
    return out


def _together(looked: Mapping[str, Looked]) -> dict[Hashable, list[str]]:
    """The labels of the signals that are asked in one pass, by what they share."""
    groups: dict[Hashable, list[str]] = {}
    for label, (signal, *_) in looked.items():
        if isinstance(signal, SharedSignal):
            groups.setdefault(signal.batch_key(), []).append(label)
    return groups


def _served(signal: Signal) -> bool:
    model = _model(signal)
    return model is not None and model.served


def _signal_plan(
    label: str,
    signal: RowSignal,
    needed: int,
    to_score: int,
    bound: bool,
    passes: int,
    cost: RowCost,
    asked_with: str,
    model: str,
    conditional: bool,
    text_tokens: float | None,
) -> SignalPlan:
    if text_tokens is not None:
        tokens, seconds = cost.of_texts(passes, text_tokens)
    elif isinstance(signal, SharedSignal):
        tokens, seconds = cost.of_fused_rows(passes, signal.batch_key())
    elif signal.needs is Capability.GENERATE:
        tokens, seconds = cost.of_generations(passes, signal.kind)
    else:
        tokens, seconds = (
            cost.of_one_shot_rows(passes, _demonstrations(signal, passes))
            if uses_demonstrations(signal)
            else cost.of(passes)
        )
    if is_bare(signal):
        tokens, bare_seconds = cost.of_bare_rows(passes)
        if not isinstance(signal, SharedSignal):
            seconds = bare_seconds
    return SignalPlan(
        label=label,
        signal=signal.kind,
        fingerprint=fingerprint(signal),
        needed=needed,
        stored=needed - to_score,
        to_score=to_score,
        upper_bound=bound,
        passes=passes,
        tokens=None if tokens is None else round(tokens),
        hours=None if seconds is None else seconds / 3600,
        conditional=conditional,
        model=model,
        served=_served(signal),
        images=not is_bare(signal) and text_tokens is None,
        writes=signal.needs is Capability.GENERATE,
        asked_with=asked_with,
        answer_tokens=0
        if not _served(signal) or signal.needs is Capability.EMBED
        else SHORT_ANSWER
        if signal.needs is Capability.GENERATE
        else 1,
    )


def _text_tokens(engine: ColumnEngine, signal: RowSignal) -> float | None:
    """Tokens of the text of one row, for a signal whose model gets that in place of the row;
    `SHORT_ANSWER` where the text is not written yet; None: the model gets the row."""
    if (named := sent_text(signal)) is None:
        return None
    source, field = signal.inputs()[named[0]], named[1]
    if source not in engine.table:
        return float(SHORT_ANSWER)
    texts = engine.table[source][field][engine.eligible.mask].tolist()
    return TOKENS_PER_WORD * sum(len(str(text).split()) for text in texts) / max(len(texts), 1)


def _demonstrations(signal: RowSignal, rows: int) -> int:
    """How often a demonstration is encoded, at most: the bank of each half, once in each call of
    the engine."""
    banks = sum(2 * int(getattr(inner, "bank", 0)) for inner in signal.inputs().values())
    return min(banks * -(-rows // ROWS_PER_CALL), rows)


def _costs(
    engine: ColumnEngine, looked: Mapping[str, Looked], passes: Mapping[str, int], how: Measuring
) -> dict[ModelIdentity | None, RowCost]:
    """What a row costs with each of the models, measured once a model."""
    out: dict[ModelIdentity | None, RowCost] = {}
    for model in dict.fromkeys(_model(signal) for signal, *_ in looked.values()):
        own = [
            signal
            for label, (signal, *_) in looked.items()
            if passes[label] and _model(signal) == model
        ]
        shared = [
            s for s, _, to_score, _ in looked.values() if to_score and isinstance(s, SharedSignal)
        ]
        out[model] = measure_cost(
            engine, model, own, [s for s in shared if _model(s) == model], how
        )
    return out
