"""What a method needs (models, training, a target set, extras), derived from its signals, so that
no method declares it twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from thresher.errors import ConfigError, opt
from thresher.types import (
    EMBEDDER,
    Capability,
    Method,
    MethodContext,
    ModelIdentity,
    OfTarget,
    Signal,
    TrainedModel,
)

LAYER = 0.5  # default of methods' setting `layer`


def no_model(what: str, without: Sequence[str] = ()) -> ConfigError:
    """The error for something that needs a model when none is named; there is no default model.

    Arguments:
        what: the subject of the message, such as an option.
        without: names of methods that need no model, to suggest.
    """
    other = f" Methods that need no model: {', '.join(without)} ({opt('method')})."
    return ConfigError(
        f"{what} needs a model, and none was named. Give {opt('model')} with a folder or a hub id "
        f"such as Qwen/Qwen2.5-VL-3B-Instruct. {opt('model', 'demo')} is the built-in model: tiny, "
        "for trying things out; its scores are of no use for another model."
        + (other if without else "")
    )


def require_model(context: MethodContext, method: str) -> ModelIdentity:
    """The context's model. Raises ConfigError, which says how to name one.

    Arguments:
        context: of a method.
        method: its name, for the message.
    """
    if context.model is None:
        raise no_model(opt("method", method))
    return context.model


def require_embedder(context: MethodContext, method: str, layer: float = LAYER) -> ModelIdentity:
    """The model whose embeddings of rows a method uses. Raises ConfigError if there is none, or if
    a layer was chosen for a server.

    Arguments:
        context: of a method.
        method: its name, for the message.
        layer: the method's setting of this name, the depth of hidden states.
    """
    model = context.embedder
    if model is None:
        raise no_model(opt("method", method))
    if model.pooled and layer != LAYER:
        raise ConfigError(
            f" is for hidden states, and {opt('embedder')} names a server, which gives one vector "
            "and has no layers to choose from. Leave it out.",
            option="settings.layer",
            value=layer,
        )
    return model


def needs(method: Method) -> tuple[Capability, ...]:
    """Capabilities of a backend that its row signals and their inputs need; empty: no model."""
    found = [getattr(signal, "needs", Capability.NONE) for signal in _all_signals(method)]
    return tuple(dict.fromkeys(need for need in found if need is not Capability.NONE))


def models_of(method: Method) -> dict[str, str]:
    """Role -> folder, hub id or URL of each further model that the method uses with these
    settings."""
    given = _models_given(method)
    if not given:
        return {}
    asked = set(_models(method))
    return {role: spec for role, spec in given.items() if ModelIdentity.unresolved(role) in asked}


def uses_main_model(method: Method, embedder: bool = False) -> bool:
    """Whether the model of `--model` is used or trained; a method whose models are all named by
    role does not need it.

    Arguments:
        method: with its settings.
        embedder: whether another model gives the embeddings of rows.
    """
    return ModelIdentity.unresolved("model") in _models(method, embedder)


def uses_embedder(method: Method) -> bool:
    """Whether the method uses embeddings of rows, which `--embedder` may take from another
    model."""
    return ModelIdentity.unresolved(EMBEDDER) in _models(method, embedder=True)


def trains(method: Method) -> bool:
    """Whether the method trains a model before it can score rows."""
    return any(
        isinstance(value, TrainedModel)
        for signal in _all_signals(method)
        for value in vars(signal).values()
    )


def needs_target(method: Method) -> bool:
    """Whether the method, with these settings, needs a target set (a validation set)."""
    return any(
        isinstance(signal, OfTarget) for signal in method.signals(_unresolved(method)).values()
    )


def extras_of(method: Method) -> tuple[str, ...]:
    """Optional dependencies that the method's signals declare (beyond those that any model
    needs)."""
    named = method.signals(_unresolved(method)).values()
    declared = [
        *_all_signals(method),
        *(signal for signal in named if isinstance(signal, OfTarget)),
    ]
    return tuple(
        dict.fromkeys(extra for signal in declared for extra in getattr(signal, "extras", ()))
    )


def _models_given(method: Method) -> dict[str, str]:
    fields = [f for f in dataclasses.fields(method) if f.metadata.get("role")]  # type: ignore[arg-type]
    given = {f.name: getattr(method, f.name) for f in fields}
    return {role: spec for role, spec in given.items() if spec not in (None, "model")}


def _unresolved(method: Method, embedder: bool = False) -> MethodContext:
    named = [*_models_given(method), *([EMBEDDER] if embedder else [])]
    roles = {role: ModelIdentity.unresolved(role) for role in named}
    return MethodContext(ModelIdentity.unresolved("model"), roles)


def _all_signals(method: Method, embedder: bool = False) -> Iterator[Signal]:
    """The signals of pool and target set, and the inputs of each."""
    named = method.signals(_unresolved(method, embedder)).values()
    queue = [signal.signal if isinstance(signal, OfTarget) else signal for signal in named]
    while queue:
        signal = queue.pop(0)
        yield signal
        queue.extend(signal.inputs().values())


def _models(method: Method, embedder: bool = False) -> Iterator[ModelIdentity]:
    for signal in _all_signals(method, embedder):
        for value in vars(signal).values():
            if isinstance(value, TrainedModel):
                yield value.base
            elif isinstance(value, ModelIdentity):
                yield value
