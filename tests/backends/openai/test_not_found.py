"""HTTP 404: whether the model or the kind of request is what a server does not have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.openai_server import Plan, serving
from thresher.backends.openai.address import Address
from thresher.backends.openai.not_found import SHOWN, not_found
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.resolve import resolve_embedder
from thresher.errors import CapabilityError, ModelError, NotAModel, ServerError

OPTIONS = ServerOptions(timeout=2.0, backoff=0.01)


@pytest.mark.parametrize(
    ("plan", "asked", "kind", "said"),
    [
        ({}, "m", CapabilityError, "has the model 'm', but gives no embeddings (HTTP 404"),
        ({}, "n", NotAModel, "has no model 'n' (HTTP 404: Not Found). No row was sent. It has: m."),
        ({"embeds": "messages"}, "n", NotAModel, "has no model 'n' (HTTP 404: The model `n` does"),
    ],
)
def test_the_list_of_models_tells_which(
    plan: dict[str, Any], asked: str, kind: type[ModelError], said: str
) -> None:
    with serving(Plan(name="m", **plan)) as server:
        handle = resolve_embedder(f"{server.url}#{asked}", OPTIONS, False)
        assert handle.check is not None
        with pytest.raises(kind) as refused:
            handle.check()
        assert said in str(refused.value) and refused.value.exit_code == 2


def test_without_a_list_both_are_said() -> None:
    found = not_found(Address("http://host/v1", "m"), None, "HTTP 404", True, begun=False)
    assert type(found) is ServerError
    assert "has no model 'm', or gives no embeddings (HTTP 404)" in str(found)
    found = not_found(Address("http://host/v1", "m"), None, "HTTP 404", False, begun=False)
    assert "or gives no chat completions at this URL (HTTP 404)" in str(found)


def test_a_server_that_has_answered_is_not_a_wrong_command() -> None:
    found = not_found(Address("http://host/v1", "m"), ["n"], "HTTP 404", True, begun=True)
    assert type(found) is ServerError and found.exit_code == 1


def test_chat_completions_and_long_lists() -> None:
    address = Address("http://host/v1", "m")
    found = not_found(address, ["m"], "HTTP 404", False, begun=False)
    assert "has the model 'm', but gives no chat completions (HTTP 404)" in str(found)
    names = [f"n{i}" for i in range(SHOWN + 5)]
    found = not_found(address, names, "HTTP 404", False, begun=False)
    assert f"n{SHOWN - 1} and 5 more." in str(found) and f"n{SHOWN}," not in str(found)
    assert "It has none." in str(not_found(address, [], "HTTP 404", True, begun=False))
