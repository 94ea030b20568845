"""A scripted server on loopback, and a backend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.backends.openai.asked_rows import Images
from tests.openai_server import Plan, Server, serving
from thresher.backends import resolve
from thresher.backends.openai.backend import OpenAIBackend
from thresher.backends.openai.options import ServerOptions

Opened = tuple[Server, OpenAIBackend]


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.fixture
def opened() -> Iterator[Callable[..., Opened]]:
    """`opened(options, **plan)`: a server that behaves so, and a backend on it with little
    patience."""
    with ExitStack() as running:

        def start(options: dict[str, Any] | None = None, **plan: Any) -> Opened:
            server = running.enter_context(serving(Plan(**plan)))
            server_options = ServerOptions(**{"timeout": 2.0, "backoff": 0.01, **(options or {})})
            return server, resolve(f"{server.url}#{server.plan.name}", server=server_options).open()

        yield start
