"""Whether the models that a request names can do what is asked of them, from the way in which they
are named alone: nothing is opened, sent or imported, so that a run that cannot work says so before
it asks for a package.

A model behind a server, in vLLM or of an adapter gives losses, answers and texts; it cannot be
trained, and embeddings of rows come from another model (`embedder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from thresher.engine.graph import model_of, models_to_train, walk
from thresher.errors import CapabilityError, opt
from thresher.methods.needs import models_of
from thresher.request import RunRequest
from thresher.request.model_spec import is_url
from thresher.signals.pooled_embedding import NAME_EMBEDDER
from thresher.signals.reading import ReadTogether, needs_weights
from thresher.types import (
    EMBEDDER,
    Capability,
    Method,
    MethodContext,
    ModelIdentity,
    OfTarget,
    Signal,
)

ONLY_GIVES = "which gives losses, answers to questions and generated text"


@dataclass(frozen=True)
class NamedModels:
    """The models of a request as they are named, without their files.

    model: of `--model`; None: there is none.
    roles: further models by role, the embedder among them.
    names: identity -> name, for messages.
    """

    model: ModelIdentity | None
    roles: Mapping[str, ModelIdentity]
    names: Mapping[ModelIdentity, str] = field(compare=False)

    @property
    def embedder(self) -> ModelIdentity | None:
        """The model that gives embeddings of rows."""
        return self.roles.get(EMBEDDER, self.model)


def named_models(request: RunRequest, method: Method) -> NamedModels:
    """The models that a request names.

    Arguments:
        request: of the user.
        method: with its settings.
    """
    engine = "vllm" if request.backend == "vllm" else ""
    names: dict[ModelIdentity, str] = {}

    def identity(spec: str, engine: str, adapter: str | None = None) -> ModelIdentity:
        served = is_url(spec)
        found = ModelIdentity(
            f"api:{spec}" if served else f"unresolved:{spec}",
            "openai" if served else "unresolved",
            "",
            "",
            adapter=adapter or "",
            engine=engine,
        )
        names[found] = spec.partition("#")[2] or spec if served else spec
        return found

    main = request.model
    if request.backend == "openai":
        main = f"{request.url}#{main or ''}"
    model = None
    if main is not None:
        model = identity(main, "" if is_url(main) else engine, request.adapter)
    roles = {
        role: identity(spec, "" if is_url(spec) else engine)
        for role, spec in models_of(method).items()
    }
    if request.embedder is not None:
        roles[EMBEDDER] = identity(
            request.embedder, "embeddings" if is_url(request.embedder) else ""
        )
    return NamedModels(model, roles, names)


def check_capabilities(method: Method, request: RunRequest) -> None:
    """Raise CapabilityError if a model cannot do what the method, `--dedup semantic` or
    `--drop-suspects` needs.

    Arguments:
        method: with its settings.
        request: of the user.
    """
    models = named_models(request, method)
    check_embedder(request, models)
    if any(identity.limit for identity in models.names):
        _check_method(method, models)


def check_embedder(request: RunRequest, models: NamedModels) -> None:
    """Raise CapabilityError or ConfigError for options that need embeddings of rows which the
    models of the request do not give.

    Arguments:
        request: of the user.
        models: of the request.
    """
    if request.dedup == "semantic" and models.embedder is not None:
        from thresher.duplicates.stage import check_semantic

        check_semantic(models.embedder, request.dedup_threshold, request.embed_text)
    if request.drop_suspects is not None and models.model is not None:
        from thresher.signals.suspicion import suspicion_signals

        suspicion_signals(models.model, embedder=models.embedder)


def _check_method(method: Method, models: NamedModels) -> None:
    named = method.signals(MethodContext(models.model, models.roles, 0, 1000))
    pool = {name: s for name, s in named.items() if not isinstance(s, OfTarget)}
    signals = list(walk(pool))
    for signal in signals:
        for base in (trained.base for trained in models_to_train(signal).values()):
            if base.limit:
                raise CapabilityError(
                    f" trains the model first, and {models.names[base]!r} {base.limit}, "
                    f"{ONLY_GIVES}. {_weights(base)}",
                    option="method",
                    value=method.name,
                )
    for embeds in (False, True):  # a model that must have weights anyway is named first
        for signal in signals:
            model = None if models_to_train(signal) else model_of(signal)
            if not isinstance(model, ModelIdentity) or not _cannot(signal, model, embeds):
                continue
            what = (
                "needs embeddings of the rows"
                if embeds
                else f"computes {signal.kind} from the distributions of single tokens"
            )
            do = getattr(signal, "alternative", NAME_EMBEDDER) if embeds else _weights(model)
            raise CapabilityError(
                f" {what}, and {models.names[model]!r} {model.limit}, {ONLY_GIVES}. {do}",
                option="method",
                value=method.name,
            )


def _cannot(signal: Signal, model: ModelIdentity, embeds: bool) -> bool:
    """Whether the model cannot compute a signal that does (`embeds`) or does not take embeddings
    of rows."""
    if embeds:
        return getattr(signal, "needs", None) is Capability.EMBED and not model.embeds
    if getattr(signal, "needs", None) is Capability.EMBED:
        return False
    words = isinstance(signal, ReadTogether) and signal.reading().words
    return (model.losses_only and needs_weights(signal)) or (bool(model.adapter) and words)


def _weights(model: ModelIdentity) -> str:
    """How to use a model's weights instead."""
    if model.served:
        return f"Give its weights: {opt('model')} with a folder or a hub id."
    if model.adapter:
        return f"Use {opt('method', 'perplexity')}, clipper or mmssr with it."
    return f"Leave {opt('backend', model.engine)} out."
