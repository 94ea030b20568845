"""The graph of signals and their inputs: how to walk it, and the names and keys of its nodes.

No I/O.
"""

from __future__ import annotations

import dataclasses
import hashlib
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from thresher.fingerprint import fingerprint
from thresher.methods.needs import models_of
from thresher.types import (
    Capability,
    Method,
    MethodContext,
    ModelIdentity,
    OfTarget,
    RowSignal,
    Signal,
    TrainedIdentity,
    TrainedModel,
)

if TYPE_CHECKING:
    from thresher.engine.context import RunContext


def signals_of(method: Method, context: RunContext, seed: int, budget: int) -> Mapping[str, Signal]:
    """The columns of the pool that a method needs, by name.

    Arguments:
        method: with its settings.
        context: the models.
        seed: random seed of the run.
        budget: number of rows to select.
    """
    named = method.signals(_context(method, context, seed, budget))
    return {name: signal for name, signal in named.items() if not isinstance(signal, OfTarget)}


def target_signals_of(method: Method, context: RunContext, seed: int) -> Mapping[str, Signal]:
    """The columns of the target set that a method needs, by name; none if it uses no target.

    Arguments:
        method: with its settings.
        context: the models.
        seed: random seed of the run.
    """
    named = method.signals(_context(method, context, seed, None))
    return {name: signal.signal for name, signal in named.items() if isinstance(signal, OfTarget)}


def _context(method: Method, run: RunContext, seed: int, budget: int | None) -> MethodContext:
    missing = sorted(models_of(method).keys() - run.roles.keys())
    assert not missing, f"{method.name} uses models that were not resolved: {', '.join(missing)}"
    named = {role: handle.identity for role, handle in run.roles.items()}
    model = None if run.model is None else run.model.identity
    return MethodContext(model, named, seed, budget, run.decided)


def models_to_train(signal: Signal) -> dict[str, TrainedModel]:
    """The fields of a signal that hold a model to be trained: field name -> model."""
    values = {f.name: getattr(signal, f.name) for f in dataclasses.fields(signal)}  # type: ignore[arg-type]
    return {name: v for name, v in values.items() if isinstance(v, TrainedModel)}


def model_of(signal: Signal) -> ModelIdentity | TrainedIdentity | None:
    """The model that a resolved signal uses; None if it uses none."""
    values = [getattr(signal, f.name) for f in dataclasses.fields(signal)]  # type: ignore[arg-type]
    found = [v for v in values if isinstance(v, (ModelIdentity, TrainedIdentity))]
    assert len(found) < 2, f"signal {signal.kind!r} uses two models at once"
    return found[0] if found else None


def walk(signals: Mapping[str, Signal]) -> Iterator[Signal]:
    """Every signal and its inputs, inputs first; a signal may be repeated."""
    for signal in signals.values():
        yield from walk(signal.inputs())
        yield signal


def with_inputs(signals: Mapping[str, Signal]) -> dict[str, Signal]:
    """The signals and all their inputs by name, inputs first.

    An input that is not one of the signals is named "outer.inner".
    """
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
    """Whether one of the signals or their inputs uses a model."""
    return any(isinstance(s, RowSignal) and s.needs is not Capability.NONE for s in walk(signals))


_memo_keys: dict[int, str] = {}
"""id of a signal that is alive -> its key. By identity: 1 and 1.0 are equal, but their keys are
not."""


def memo_key(signal: Signal) -> str:
    """The key of a signal's column within a run, 64 hexadecimal digits.

    A hash of the fingerprint and of the inputs, which a fingerprint may leave out (`not_identity`).
    Computed once for each object: signals that share inputs, as those of a method's rounds do,
    would otherwise be hashed a number of times that is exponential in the depth of the graph.
    """
    key = _memo_keys.get(id(signal))
    if key is None:
        inner = "".join(f"|{name}={memo_key(s)}" for name, s in signal.inputs().items())
        key = hashlib.sha256((fingerprint(signal) + inner).encode()).hexdigest()
        weakref.finalize(signal, _memo_keys.pop, id(signal), None).atexit = False
        _memo_keys[id(signal)] = key
    return key
