"""What a method needs from a model, read off its signals: nobody has to declare it twice."""

from __future__ import annotations

from dataclasses import replace

from thresher.errors import ConfigError
from thresher.types import Capability, Method, ModelIdentity, RolesMethod, Signal, TargetMethod, TrainedModel

_ANY_MODEL = ModelIdentity(weights="any", architecture="any", dtype="float32", pixels="pil")


def no_model(what: str) -> ConfigError:
    """The error for something that works with a model, where none was named. No model is taken by default."""
    return ConfigError(
        f"{what} works with a model, and none was named. Give --model with a folder or a hub id such as "
        "Qwen/Qwen2.5-VL-3B-Instruct. --model demo is the built-in model: tiny, for trying things out; what it "
        "says of your rows is of no use for another model."
    )


def require_model(model: ModelIdentity | None, method: str) -> ModelIdentity:
    """`model`, or a ConfigError that says how to name one."""
    if model is None:
        raise no_model(f"--method {method}")
    return model


def needs(method: Method) -> tuple[Capability, ...]:
    """Capabilities that its row signals, and what these are computed from, ask of a backend; () = needs no model."""
    found: list[Capability] = []
    for signal in _all_signals(method):
        need = getattr(signal, "needs", Capability.NONE)
        if need is not Capability.NONE and need not in found:
            found.append(need)
    return tuple(found)


def asks_the_model(method: Method) -> bool:
    """Whether `--model` itself is asked or trained: a method all of whose models are named by role does without."""
    if not isinstance(method, RolesMethod) or not method.models():
        return bool(needs(method))
    return any(_is_main(value) for signal in _all_signals(method) for value in vars(signal).values())


def trains(method: Method) -> bool:
    """Whether the method has a model trained before it can score rows."""
    return any(isinstance(value, TrainedModel) for signal in _all_signals(method) for value in vars(signal).values())


def aims(method: Method) -> bool:
    """Whether the method, with these settings, aims at a target set: a validation set must be given."""
    return isinstance(method, TargetMethod) and bool(method.target_signals(_stand_ins(method), 0))


def _stand_ins(method: Method) -> dict[str, ModelIdentity]:
    roles = method.models() if isinstance(method, RolesMethod) else {}
    return {"model": _ANY_MODEL} | {role: replace(_ANY_MODEL, weights=f"any {role}") for role in roles}


def _is_main(value: object) -> bool:
    return value == _ANY_MODEL or (isinstance(value, TrainedModel) and value.base == _ANY_MODEL)


def _all_signals(method: Method) -> list[Signal]:
    """The signals of a selection with stand-in models, and the inputs of each."""
    if isinstance(method, RolesMethod):
        queue = list(method.signals_of_roles(_stand_ins(method), 0, 1000).values())
    else:
        queue = list(method.signals(_ANY_MODEL, 0).values())
    if isinstance(method, TargetMethod):
        queue += method.target_signals(_stand_ins(method), 0).values()
    found = []
    while queue:
        signal = queue.pop(0)
        found.append(signal)
        queue.extend(signal.inputs().values())
    return found
