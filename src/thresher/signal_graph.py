"""Signals name their inputs, which name theirs: walking that graph, naming its nodes, telling its columns apart. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from thresher.fingerprint import fingerprint
from thresher.types import (
    BudgetMethod,
    Capability,
    Method,
    ModelIdentity,
    RowSignal,
    Signal,
    TrainedIdentity,
    TrainedModel,
)

if TYPE_CHECKING:
    from thresher.backends import ModelHandle


def signals_of(method: Method, model: ModelHandle | None, seed: int, budget: int) -> Mapping[str, Signal]:
    """The columns that a selection of `budget` rows needs."""
    identity: ModelIdentity | None = None if model is None else model.identity
    if isinstance(method, BudgetMethod):
        return method.signals_within(identity, seed, budget)
    return method.signals(identity, seed)


def models_to_train(signal: Signal) -> dict[str, TrainedModel]:
    """field name -> model that is not resolved yet."""
    values = {f.name: getattr(signal, f.name) for f in dataclasses.fields(signal)}  # type: ignore[arg-type]
    return {name: v for name, v in values.items() if isinstance(v, TrainedModel)}


def trained_by(signal: Signal) -> TrainedIdentity | None:
    """The model of a resolved signal when it is one that thresher trains."""
    values = [getattr(signal, f.name) for f in dataclasses.fields(signal)]  # type: ignore[arg-type]
    found = [v for v in values if isinstance(v, TrainedIdentity)]
    assert len(found) < 2, f"signal {signal.name!r} asks two trained models at once"
    return found[0] if found else None


def walk(signals: Mapping[str, Signal]) -> Iterator[Signal]:
    """Every signal and its inputs, inputs first; the same one may come more than once."""
    for signal in signals.values():
        yield from walk(signal.inputs())
        yield signal


def unlabelled(signals: Mapping[str, Signal]) -> dict[str, Signal]:
    """The signals and those of their inputs that have no name of their own, which get "outer.inner"; inputs first."""
    names = {memo_key(signal): name for name, signal in signals.items()}
    seen: set[str] = set()
    out: dict[str, Signal] = {}

    def visit(name: str, signal: Signal) -> None:
        seen.add(memo_key(signal))
        for inner_name, inner in signal.inputs().items():
            key = memo_key(inner)
            if key not in seen:
                visit(names.get(key, f"{name}.{inner_name}"), inner)
        out[name] = signal

    for name, signal in signals.items():
        if name not in out:
            visit(name, signal)
    return out


def needs_model(signals: Mapping[str, Signal]) -> bool:
    return any(isinstance(s, RowSignal) and s.needs is not Capability.NONE for s in walk(signals))


def memo_key(signal: Signal) -> str:
    """Tells columns apart within a run: the fingerprint, and the inputs that it may leave out (`not_identity`)."""
    inner = "".join(f"|{name}={memo_key(s)}" for name, s in signal.inputs().items())
    return hashlib.sha256((fingerprint(signal) + inner).encode()).hexdigest()
