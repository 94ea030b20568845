"""Embeddings from a server on loopback: values, what is sent, failures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.backends.openai.asked_rows import Images, collect
from tests.openai_server import Plan, Scripted, Server, serving
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.pooling import PoolingBackend, read_vector
from thresher.backends.openai.resolve import resolve_embedder
from thresher.errors import CapabilityError, CapReached, ServerError
from thresher.types import ImageRef, Sample, Turn

Opened = tuple[Server, PoolingBackend]


@pytest.fixture
def opened() -> Iterator[Callable[..., Opened]]:
    """`opened(options, texts, **plan)`: an embeddings server that behaves so, and a backend on it
    with little patience."""
    with ExitStack() as running:

        def start(
            options: dict[str, Any] | None = None, texts: bool = False, **plan: Any
        ) -> Opened:
            server = running.enter_context(serving(Plan(**{"embeds": "messages", **plan})))
            given = ServerOptions(**{"timeout": 2.0, "backoff": 0.01, **(options or {})})
            url = f"{server.url}/embeddings#{server.plan.name}"
            return server, resolve_embedder(url, given, texts).open()

        yield start


def row(question: str, answer: str, images: int = 0) -> Sample:
    refs = tuple(ImageRef(f"{k}.png", size=1) for k in range(images))
    shown = "<image>\n" * images + question
    return Sample(question, (Turn("user", shown), Turn("assistant", answer)), refs)


ROWS = [row("Is it red?", "Yes."), row("What is it?", "A ball.", 1), row("Why?", "")]


def unit(vector: list[float]) -> np.ndarray:
    return (np.array(vector) / np.linalg.norm(vector)).astype(np.float32)


def test_values_are_the_servers_vectors_at_length_1(opened: Callable[..., Opened]) -> None:
    server, backend = opened()
    found, errors = collect(
        backend.embed_parts(ROWS, Images(), ["question", "answer", "image"]), len(ROWS)
    )
    assert errors == ["", "", ""]
    assert {v.shape for v in found.values()} == {(3, 16)} and found["answer"].dtype == np.float32
    for i, answer in enumerate(["Yes.", "A ball."]):
        want = unit(Scripted().embed([{"role": "user", "content": answer}]))
        np.testing.assert_allclose(found["answer"][i], want, rtol=1e-6)
    assert not found["answer"][2].any() and not found["image"][[0, 2]].any()
    np.testing.assert_allclose(np.linalg.norm(found["question"], axis=1), 1, rtol=1e-6)
    # a trivial text and a trivial image first; then 3 questions, 2 answers, 1 image
    assert len(server.embedded) == 2 + 6 == backend.options.account.requests
    assert backend.options.account.tokens_in > 0 == backend.options.account.tokens_out
    assert not server.asked


def test_images_are_sent_in_the_question(opened: Callable[..., Opened]) -> None:
    server, backend = opened()
    collect(backend.embed_parts(ROWS[1:2], Images(), ["question"]), 1)
    body = server.embedded[-1][2]
    assert body.keys() == {"model", "messages"}
    picture, words = body["messages"][0]["content"]
    raw = base64.b64decode(picture["image_url"]["url"].partition("base64,")[2])
    want = Images().load_image(ROWS[1].images[0])
    assert Image.open(io.BytesIO(raw)).tobytes() == want.tobytes()
    assert words == {"type": "text", "text": "What is it?"}


def test_texts_only_leaves_images_out(opened: Callable[..., Opened]) -> None:
    server, backend = opened(texts=True, embeds="texts")
    found, errors = collect(backend.embed_parts(ROWS, Images(), ["question", "image"]), len(ROWS))
    assert errors == ["", "", ""] and not found["image"].any()
    np.testing.assert_allclose(
        found["question"][1], unit(Scripted().embed("What is it?")), rtol=1e-6
    )
    assert all(body.keys() == {"model", "input"} for _, _, body in server.embedded)
    assert "image" not in json.dumps([body for *_, body in server.embedded])


@pytest.mark.parametrize(
    ("plan", "rows", "words"),
    [
        ({"embeds": "texts"}, ROWS, ["Field required", "embed_text=True", "--runner pooling"]),
        ({"sees": False}, ROWS[1:], ["of an image", "not a multimodal model", "embed_text=True"]),
    ],
)
def test_a_server_that_does_not_take_what_is_sent(
    opened: Callable[..., Opened], plan: dict[str, Any], rows: list[Sample], words: list[str]
) -> None:
    """No row is sent, and none is stored as a failure."""
    server, backend = opened(**plan)
    with pytest.raises(CapabilityError) as raised:
        list(backend.embed_parts(rows, Images(), ["question"]))
    assert all(w in str(raised.value) for w in words), raised.value
    assert {text for _, text, _ in server.embedded} == {"Say yes."}


def test_a_server_of_texts_embeds_rows_without_images(opened: Callable[..., Opened]) -> None:
    _, backend = opened(sees=False)
    _, errors = collect(backend.embed_parts(ROWS[:1], Images(), ["question"]), 1)
    assert errors == [""]


@pytest.mark.parametrize("check", [True, False])
def test_a_server_without_embeddings(opened: Callable[..., Opened], check: bool) -> None:
    _, backend = opened(embeds="")
    ask = backend.check if check else lambda: list(backend.embed_parts(ROWS, Images(), ["all"]))
    with pytest.raises(CapabilityError, match="vllm serve MODEL --runner pooling"):
        ask()


def test_check_sends_one_trivial_text(opened: Callable[..., Opened]) -> None:
    server, backend = opened()
    backend.check()
    assert [text for _, text, _ in server.embedded] == ["Say yes."]


@pytest.mark.parametrize(
    ("vector", "error"),
    [
        ([0.0] * 16, "zero-vector"),
        ([None] + [1.0] * 15, "not-finite"),
        ([1.0], "ServerError"),
        ([], "given up"),
        ("AACAPw==", "given up"),
        ([True] * 16, "given up"),
    ],
)
def test_vectors_of_no_use(opened: Callable[..., Opened], vector: Any, error: str) -> None:
    """A stored failure of the row; vectors of two lengths stop the run."""
    server, backend = opened(vectors={"red": vector})
    rows = [row("What?", "A ball."), ROWS[0]]
    if error == "ServerError":
        with pytest.raises(ServerError, match="1 numbers after vectors of 16"):
            list(backend.embed_parts(rows, Images(), ["question"]))
        return
    found, errors = collect(backend.embed_parts(rows, Images(), ["question"]), 2)
    assert errors[0] == "" and error in errors[1]
    assert not found["question"][1].any() and len(server.embedded) >= 3


def test_large_and_small_numbers_keep_their_direction(opened: Callable[..., Opened]) -> None:
    _, backend = opened(vectors={"large": [3e200, 4e200], "small": [3e-200, 4e-200], "": [1, 0]})
    found, errors = collect(
        backend.embed_parts([row("large", ""), row("small", "")], Images(), ["question"]), 2
    )
    assert errors == ["", ""]
    np.testing.assert_allclose(found["question"], [[0.6, 0.8]] * 2, rtol=1e-6)


def test_failures_are_sent_again(opened: Callable[..., Opened]) -> None:
    clean = opened()[1]
    want, _ = collect(clean.embed_parts(ROWS * 5, Images(), ["question", "answer"]), 15)
    server, backend = opened({"tries": 12}, fail=0.3, ways=("429", "500", "truncated", "dropped"))
    got, errors = collect(backend.embed_parts(ROWS * 5, Images(), ["question", "answer"]), 15)
    assert errors == [""] * 15
    np.testing.assert_array_equal(got["question"], want["question"])
    np.testing.assert_array_equal(got["answer"], want["answer"])
    assert any(fate not in ("ok", "refused") for fate, *_ in server.embedded)


def test_a_refused_row_and_a_broken_image_are_failures(opened: Callable[..., Opened]) -> None:
    _, backend = opened(refuse="red")
    broken = Sample("b", ROWS[1].turns, (ImageRef("broken.png", size=1),))
    _, errors = collect(backend.embed_parts([ROWS[1], ROWS[0], broken], Images(), ["question"]), 3)
    assert errors[0] == "" and "HTTP 400" in errors[1] and errors[2].startswith("broken-image")


def test_a_limit_of_requests_counts_every_part(opened: Callable[..., Opened]) -> None:
    server, backend = opened({"max_requests": 8})
    rows = [row(f"Question {k}?", f"Answer {k}") for k in range(10)]
    kept: list[int] = []

    def ask() -> None:
        for piece in backend.embed_parts(rows, Images(), ["question", "answer"]):
            kept.extend(piece.index.tolist())

    with pytest.raises(CapReached, match="Results are stored"):
        ask()
    assert len(server.embedded) == 7 and len(kept) == 3  # and one trivial text


def test_texts_and_rows(opened: Callable[..., Opened]) -> None:
    _, backend = opened(refuse="red")
    one, two = backend.embed(["Is it?", "Is it red?"])
    want = unit(Scripted().embed([{"role": "user", "content": "Is it?"}]))
    assert isinstance(one, np.ndarray) and isinstance(two, str) and "HTTP 400" in two
    np.testing.assert_allclose(one, want, rtol=1e-6)
    found, _ = collect(backend.embed_rows(ROWS[1:2], Images()), 1)
    assert found.keys() == {"images", "question", "answer"}


def test_a_server_that_wants_a_key(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1")
    server, backend = opened(key="secret-1")
    collect(backend.embed_parts(ROWS[:1], Images(), ["question"]), 1)
    assert set(server.sent_keys) == {"Bearer secret-1"}


def test_identity_and_name() -> None:
    """Apart from chat completions of the same name, and from texts only; not the URL."""
    options = ServerOptions()
    one = resolve_embedder("http://127.0.0.1:1/v1#m", options, False)
    other = resolve_embedder("http://127.0.0.1:2/v1/embeddings#m", options, False)
    texts = resolve_embedder("http://127.0.0.1:1/v1#m", options, True)
    assert one.identity == other.identity != texts.identity
    assert one.identity.pooled and one.identity.embeds and one.name == "m (embeddings)"


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"data": []},
        {"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]},
        {"data": [{"embedding": "AACAPw=="}]},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": [1.0, "2"]}]},
        {"data": ["x"]},
    ],
)
def test_what_is_no_embedding(response: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="embedding"):
        read_vector(response)
