"""What a method needs from a model, read off its signals: nobody has to declare it twice."""

from __future__ import annotations

from thresher.errors import ConfigError
from thresher.types import Capability, Method, ModelIdentity, Signal

_ANY_MODEL = ModelIdentity(weights="any", architecture="any", dtype="float32", pixels="pil")


def require_model(model: ModelIdentity | None, method: str) -> ModelIdentity:
    """`model`, or a ConfigError that says how to name one."""
    if model is None:
        raise ConfigError(
            f"--method {method} asks a model about every row, and no model was given. "
            "Add --model with a folder, a hub id such as Qwen/Qwen2.5-VL-3B-Instruct, or `demo`."
        )
    return model


def needs(method: Method) -> tuple[Capability, ...]:
    """Capabilities that its row signals, and what these are computed from, ask of a backend; () = needs no model."""
    found: list[Capability] = []
    queue: list[Signal] = list(method.signals(_ANY_MODEL, 0).values())
    while queue:
        signal = queue.pop(0)
        need = getattr(signal, "needs", Capability.NONE)
        if need is not Capability.NONE and need not in found:
            found.append(need)
        queue.extend(signal.inputs().values())
    return tuple(found)
