"""From a server's URL to a model handle: its name, its identity, and how to open it. Sends nothing
if a model is named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from thresher.backends.handle import ModelHandle
from thresher.backends.openai.address import Address, parse, read_key
from thresher.backends.openai.options import ServerOptions
from thresher.errors import ConfigError, opt
from thresher.types import ModelIdentity

if TYPE_CHECKING:
    from thresher.backends.openai.backend import OpenAIBackend
    from thresher.backends.openai.client import Client
    from thresher.backends.openai.pooling import PoolingBackend

ARCHITECTURE = "openai"
TEXTS = "none: texts only"  # in place of how images are sent


def resolve(spec: str, options: ServerOptions) -> ModelHandle:
    """The model behind a server.

    Arguments:
        spec: `http://host:port/v1#NAME`; without `#NAME` the server must have exactly one model.
        options: of the run.

    The identity consists of the model's name and of how images are sent, not of the URL or the key:
    two servers that use one name for different weights share their scores. Raises ConfigError,
    ServerError.
    """
    address = _address(spec, options, opt("model"))
    identity = ModelIdentity(f"api:{address.model}", ARCHITECTURE, "server", options.pixels)
    return ModelHandle(
        address.model,
        identity,
        lambda: _open(address, options),
        check=lambda: _check(address, options),
    )


def resolve_embedder(spec: str, options: ServerOptions, texts: bool) -> ModelHandle:
    """The model behind a server that gives embeddings.

    Arguments:
        spec: as for `resolve`.
        options: of the run.
        texts: whether rows are sent as texts, without their images, which is part of the identity.

    Its name differs from that of the same model behind a server of chat completions. Raises
    ConfigError, ServerError.
    """
    address = _address(spec, options, opt("embedder"))
    pixels = TEXTS if texts else options.pixels
    identity = ModelIdentity(
        f"api:{address.model}", ARCHITECTURE, "server", pixels, engine="embeddings"
    )
    return ModelHandle(
        f"{address.model} (embeddings)",
        identity,
        lambda: _open_embedder(address, options, texts),
        check=lambda: _check_embedder(address, options, texts),
    )


def _address(spec: str, options: ServerOptions, option: str) -> Address:
    address = parse(spec)
    read_key(options.api_key_env)  # reports a wrong one before anything is spent
    return (
        address if address.model else Address(address.base, _only_model(address, options, option))
    )


def is_served(identity: ModelIdentity) -> bool:
    """Whether this is a model behind a server."""
    return identity.weights.startswith("api:")


def _open(address: Address, options: ServerOptions) -> OpenAIBackend:
    from thresher.backends.openai.backend import OpenAIBackend

    return OpenAIBackend(address, read_key(options.api_key_env), options)


def _open_embedder(address: Address, options: ServerOptions, texts: bool) -> PoolingBackend:
    from thresher.backends.openai.pooling import PoolingBackend

    return PoolingBackend(address, read_key(options.api_key_env), options, texts)


def served_models(address: Address, options: ServerOptions) -> list[str]:
    """The names of a server's models. Raises ConfigError, ServerError.

    Arguments:
        address: of the server.
        options: of the run.
    """
    with _client(address, options) as client:
        return client.models()


def _check(address: Address, options: ServerOptions) -> None:
    with _client(address, options) as client:
        client.check_reachable()


def _check_embedder(address: Address, options: ServerOptions, texts: bool) -> None:
    backend = _open_embedder(address, options, texts)
    try:
        backend.check()
    finally:
        backend.client.close()


@contextlib.contextmanager
def _client(address: Address, options: ServerOptions) -> Iterator[Client]:
    from thresher.backends.openai.client import Client

    client = Client(address, read_key(options.api_key_env), options)
    try:
        yield client
    finally:
        client.close()


def _only_model(address: Address, options: ServerOptions, option: str) -> str:
    names = served_models(address, options)
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigError(f"The server {address.base} has no model.")
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    raise ConfigError(
        f"The server {address.base} has {len(names)} models. Name one with {option}, or as "
        f"#NAME after the URL: {shown}."
    )
