"""The models that a request names, and what trains models for methods that need it.

Models are resolved, not opened: nothing is loaded onto a device. Raises ModelError, ConfigError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from thresher.errors import opt
from thresher.request import SERVER, RunRequest
from thresher.request.devices import first_device
from thresher.request.image_pixels import ImagePixels
from thresher.request.model_spec import is_url
from thresher.types import EMBEDDER, Method

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.backends.openai.options import ServerOptions
    from thresher.storage.columns import Store
    from thresher.training.registry import Trainer


def server_options(request: RunRequest) -> ServerOptions:
    """The options for servers of this run. Raises ConfigError, also for a URL or a key that cannot
    be used."""
    from thresher.backends.openai.address import parse, read_key
    from thresher.backends.openai.options import ServerOptions

    if request.url is not None:
        parse(request.url)
    names = [name for name in SERVER if name != "url"]
    given = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
    options = ServerOptions(**given)
    if request.url is not None:
        read_key(options.api_key_env)
    return options


def the_model(
    request: RunRequest, store: Store, server: ServerOptions | None = None
) -> ModelHandle | None:
    """The model that the request names, not opened yet; None if it names none. Raises ModelError.

    Arguments:
        request: of the user.
        store: for cached hashes.
        server: options for servers.
    """
    if request.backend == "openai":
        spec: str | None = f"{request.url}#{request.model or ''}"
    else:
        spec = request.model
    if spec is None:
        return None
    bounds = None if request.image_pixels is None else ImagePixels.parse(request.image_pixels)
    return named_model(spec, request, store, server, image_pixels=bounds, adapter=request.adapter)


def the_roles(
    method: Method,
    request: RunRequest,
    store: Store,
    server: ServerOptions | None = None,
    option: Callable[[str], str] = "settings.{}".format,
) -> dict[str, ModelHandle]:
    """The further models that the method's settings name, by role. Raises ModelError.

    Arguments:
        method: with its settings.
        request: of the user.
        store: for cached hashes.
        server: options for servers.
        option: role -> the option that named it.
    """
    from thresher.methods.needs import models_of

    asked = models_of(method)
    return {
        role: named_model(spec, request, store, server, opt(option(role), spec))
        for role, spec in asked.items()
    }


def the_embedder(
    request: RunRequest, store: Store, server: ServerOptions | None = None
) -> dict[str, ModelHandle]:
    """The model that gives embeddings of rows, by its role; none if the request names none.
    Raises ModelError.

    Arguments:
        request: of the user.
        store: for cached hashes.
        server: options for servers.
    """
    if request.embedder is None:
        return {}
    typed = opt("embedder", request.embedder)
    if is_url(request.embedder):
        from thresher.backends.openai.resolve import resolve_embedder

        options = server or server_options(request)
        return {EMBEDDER: resolve_embedder(request.embedder, options, request.embed_text)}
    from thresher.backends.identity import check_name

    check_name(request.embedder, typed, embedder=True)
    here = replace(request, backend="hf", vllm=())  # vLLM gives no hidden states
    return {EMBEDDER: named_model(request.embedder, here, store, server, typed)}


def named_model(
    spec: str,
    request: RunRequest,
    store: Store,
    server: ServerOptions | None = None,
    typed: str | None = None,
    image_pixels: ImagePixels | None = None,
    adapter: str | None = None,
) -> ModelHandle:
    """The model that `spec` names, with the request's options of models, not opened yet.

    Arguments:
        spec: a folder, a hub id, `demo`, or the URL of a server.
        request: device, precision and other options of models.
        store: for cached hashes.
        server: options for servers; one object for all models of a run.
        typed: how the user named the model, for messages; None: `opt("model", spec)`.
        image_pixels: bounds on the pixels of its images; None: as in its own files.
        adapter: `module:Class` that runs the model; None: transformers does.
    """
    from thresher.backends import resolve

    handle = resolve(
        spec,
        device=first_device(request.device, request.devices),
        dtype=request.dtype,
        batch_tokens=request.batch_tokens,
        trust_remote_code=request.trust_remote_code,
        cache=store.root / "models",
        server=server or server_options(request),
        typed=typed,
        image_pixels=image_pixels,
        adapter=adapter,
        engine="vllm" if request.backend == "vllm" else "",
        engine_arguments=request.vllm,
    )
    if request.video_frames is None or handle.identity.served:
        return handle
    pixels = f"{handle.identity.pixels}, {request.video_frames} video frames"
    return replace(handle, identity=replace(handle.identity, pixels=pixels))


def on_workers(request: RunRequest) -> RunRequest:
    """The request with the precision of weights where they will be loaded, which is part of a
    score's identity: on the workers of a Ray cluster, or here."""
    if request.engine == "local":
        return request
    from thresher.selection.ray_cluster import place

    return replace(request, device="cpu", dtype=place(request).dtype)


def trainer_for(request: RunRequest, store: Store) -> Trainer:
    """Trains models for methods that need it.

    Arguments:
        request: device and precision.
        store: for cached hashes.
    """
    from thresher.training.registry import make_trainer

    return make_trainer(
        device=first_device(request.device, request.devices),
        dtype=request.dtype,
        batch_tokens=request.batch_tokens,
        trust_remote_code=request.trust_remote_code,
        cache=store.root / "models",
    )
