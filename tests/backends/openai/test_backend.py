"""The backend with a scripted server: answers, texts, failures of every kind, caps, and
refusals without a request."""

from __future__ import annotations

import logging
import math
import socket
import time
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import pytest

from tests.backends.openai.asked_rows import SCORE, SURE, Images, collect, rows
from tests.openai_server import WAYS, Plan, Scripted, serving
from thresher.backends import resolve
from thresher.backends.openai.options import ServerOptions
from thresher.errors import CapabilityError, CapReached, ConfigError, NotAModel, ServerError
from thresher.signals.query import Query
from thresher.types import ImageRef, Sample, Turn

KEY = "sk-test-5up3rs3cr3t"


def shown(text: str = "<image>\nIs it red?", *paths: str) -> Sample:
    return Sample(
        "s",
        (Turn("system", "Be brief."), Turn("user", text)),
        tuple(ImageRef(path=p) for p in paths),
    )


# ---------------------------------------------------------------------------- what is sent and read


def test_ask_returns_the_servers_probabilities(opened: Any, images: Images) -> None:
    server, backend = opened()
    values, errors = collect(backend.ask(rows(20), [SCORE, SURE], images), 20)
    got = values["logprob"]
    assert errors == [""] * 20 and got.shape == (20, 8) and got.dtype == np.float32
    assert len(server.asked) == 40
    for i in (0, 7, 19):
        for query, part in ((SCORE, got[i, :6]), (SURE, got[i, 6:])):
            by_name = dict(
                Scripted().first([{"role": "user", "content": f"Question {i}?{query.text}"}], 0)
            )
            assert part.tolist() == pytest.approx([by_name[a] for a in query.answers], abs=1e-6)


def test_a_request(opened: Any, images: Images) -> None:
    server, backend = opened()
    collect(
        backend.ask(
            [shown("<image>\nAre <image> and it alike?", "a.png", "bb.png")], [SURE], images
        ),
        1,
    )
    (_, _, body), *more = server.asked
    assert not more
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "scripted",
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "stream": False,
    }
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [p["type"] for p in user["content"]] == ["image_url", "text", "image_url", "text"]
    assert [p["text"] for p in user["content"] if p["type"] == "text"] == [
        "Are ",
        " and it alike?\nSure?",
    ]
    urls = [p["image_url"]["url"] for p in user["content"] if p["type"] == "image_url"]
    assert all(u.startswith("data:image/png;base64,") for u in urls) and urls[0] != urls[1]


def test_generate_asks_for_the_last_answer(opened: Any, images: Images) -> None:
    server, backend = opened()
    turns = (
        Turn("user", "One?"),
        Turn("assistant", "1"),
        Turn("user", "Two?"),
        Turn("assistant", "2"),
    )
    values, errors = collect(backend.generate([Sample("a", turns), rows(1)[0]], images, 16), 2)
    assert errors == ["", ""] and values["tokens"].tolist() == [5, 5] and values["finished"].all()
    asked = {text: body for _, text, body in server.asked}
    assert [m["content"] for m in asked["Two?"]["messages"]] == ["One?", "1", "Two?"]
    assert values["text"][0] == Scripted().write(asked["Two?"]["messages"], 16, 0, 0)[0].strip()
    assert asked["Two?"]["max_tokens"] == 16 and asked["Two?"]["temperature"] == 0
    cut, _ = collect(backend.generate(rows(1), images, 2), 1)
    assert not cut["finished"][0] and cut["tokens"][0] == 2


@pytest.mark.parametrize("several", [True, False])
def test_sample_returns_n_texts_per_row(opened: Any, images: Images, several: bool) -> None:
    server, backend = opened(several=several)
    values, errors = collect(backend.sample(rows(4), images, 3, 0.7, 8, 1), 4)
    assert errors == [""] * 4 and list(values) == ["text_0", "text_1", "text_2"]
    texts = [values[f"text_{k}"][i] for i in range(4) for k in range(3)]
    assert len(dict.fromkeys(texts)) == 12
    again, _ = collect(backend.sample(rows(4), images, 3, 0.7, 8, 1), 4)
    other, _ = collect(backend.sample(rows(4), images, 3, 0.7, 8, 2), 4)
    assert again["text_0"].tolist() == values["text_0"].tolist() != other["text_0"].tolist()
    if several:
        assert len(server.asked) == 12 and all(b["n"] == 3 for _, _, b in server.asked)


def test_server_that_does_not_sample_is_detected(
    opened: Any, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Scripted, "write", lambda self, messages, length, temperature, seed: ("Yes", 1, True)
    )
    _, backend = opened()
    collect(backend.sample(rows(30), images, 2, 0.7, 8, 1), 30)
    assert len(backend.notes) == 1 and "does it sample?" in backend.notes[0]


# ----------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("way", WAYS)
def test_each_failure_is_retried(opened: Any, images: Images, way: str) -> None:
    hangs = way == "hang"  # a short timeout would also affect good answers on a busy machine
    server, backend = opened(
        {"timeout": 1.0 if hangs else 30.0}, exactly={1: way, 2: way, 6: way}, hang=3.0
    )
    values, errors = collect(backend.ask(rows(8), [SCORE], images), 8)
    assert errors == [""] * 8 and np.isfinite(values["logprob"]).all()
    assert len(server.asked) == 11 and set(server.answered.values()) == {1}


def test_unanswered_row_is_a_failure_with_a_reason(opened: Any, images: Images) -> None:
    server, backend = opened({"tries": 3, "concurrency": 2}, breaks_mutely="Question 2?")
    values, errors = collect(backend.ask(rows(3), [SCORE], images), 3)
    assert errors == ["", "", "server: given up after 4 tries: HTTP 500: Internal Server Error"]
    assert np.isnan(values["logprob"][2]).all() and np.isfinite(values["logprob"][:2]).all()
    asked = [text for _, text, _ in server.asked]
    assert (
        asked.count("Question 2?\nScore?") == 4 and asked.count("Say yes.") <= 1 and len(asked) <= 7
    )


def test_thirty_percent_failures_lose_no_row() -> None:
    # rows expected to be given up, of 500 with 15 questions each
    assert 0.3 ** ServerOptions().tries * 500 * 15 < 0.01


def test_failed_row_gets_no_further_requests(opened: Any, images: Images) -> None:
    server, backend = opened({"concurrency": 1, "tries": 2}, refuse="Question 1?")
    _, errors = collect(backend.ask(rows(3), [SCORE, SURE], images), 3)
    assert [bool(e) for e in errors] == [False, True, False]
    assert "HTTP 400" in errors[1] and "is not served" in errors[1]
    assert len(server.asked) == 5


def test_broken_image_sends_no_request(opened: Any, images: Images) -> None:
    server, backend = opened()
    samples = [shown("<image>\nWhat?", "broken.png"), *rows(2)]
    _, errors = collect(backend.ask(samples, [SCORE], images), 3)
    assert (
        errors == ["broken-image: broken.png: broken image: cut off", "", ""]
        and len(server.asked) == 2
    )


def test_server_outage_stops_the_run_without_row_failures(opened: Any, images: Images) -> None:
    exactly = dict.fromkeys(range(10, 2000), "500")
    _, backend = opened({"tries": 2, "concurrency": 4}, exactly=exactly)
    seen, errors = [], []

    def run() -> None:
        for piece in backend.ask(rows(200), [SCORE], images):
            seen.extend(piece.index.tolist())
            errors.extend(piece.errors)

    with pytest.raises(
        ServerError,
        match=r"last 8 rows were .*HTTP 500.*Run the same command "
        r"again",
    ):
        run()
    assert len(seen) == 10 and not any(errors)


def test_server_that_never_answered_is_abandoned_sooner(
    opened: Any, images: Images, caplog: pytest.LogCaptureFixture
) -> None:
    server, backend = opened({"tries": 2}, fail=1.0, ways=("500",))
    with pytest.raises(
        ServerError,
        match=r"first row was given up after 2 tries: HTTP 500.*Is "
        r"the URL right",
    ):
        list(backend.ask(rows(50), [SCORE], images))
    assert len(server.asked) == 3  # the last one is the probe request
    assert [
        r.getMessage()
        for r in caplog.records
        if "given no usable answer yet (HTTP 500" in r.getMessage()
    ] != []
    assert len(caplog.records) == 1  # logged once


def test_an_unreachable_server(images: Images) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    options = ServerOptions(tries=2, backoff=0.01)
    backend = resolve(f"http://127.0.0.1:{port}/v1#m", server=options).open()
    for count in (1, 50):
        with pytest.raises(
            ServerError,
            match=rf":{port}/v1 does not answer: the first row "
            r".*cannot be reached",
        ):
            list(backend.ask(rows(count), [SCORE], images))
    with pytest.raises(ServerError, match="cannot be reached"):
        resolve(f"http://127.0.0.1:{port}/v1", server=options)


def test_retry_after_is_respected(opened: Any, images: Images) -> None:
    _, backend = opened({"concurrency": 1}, exactly={0: "429"})
    change = AsyncMock(side_effect=lambda r: r.headers.update({"Retry-After": "1"}))
    backend.client._transport._http.event_hooks = {"response": [change]}
    began = time.monotonic()
    collect(backend.ask(rows(1), [SCORE], images), 1)
    assert time.monotonic() - began >= 1.0


# --------------------------------------------------------------------------------- what stops a run


@pytest.mark.parametrize("asked", ["601", "86400", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_long_retry_after_stops_the_run(opened: Any, images: Images, asked: str) -> None:
    server, backend = opened({"concurrency": 1}, exactly={0: "429"})
    change = AsyncMock(side_effect=lambda r: r.headers.update({"Retry-After": asked}))
    backend.client._transport._http.event_hooks = {"response": [change]}
    with pytest.raises(
        ServerError,
        match=r"asks to wait [\d,]+ seconds .*HTTP 429.*run the same "
        r"command again",
    ):
        collect(backend.ask(rows(1), [SCORE], images), 1)
    assert len(server.asked) == 1


def test_server_that_accepts_and_never_answers(images: Images) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1#m"
        backend = resolve(url, server=ServerOptions(timeout=0.3, backoff=0.01)).open()
        with pytest.raises(
            ServerError,
            match=r"after 3 tries: no complete answer within 0.3 "
            r"s.*longer `timeout`",
        ):
            list(backend.ask(rows(5), [SCORE], images))


def test_missing_logprobs_are_reported_at_once(opened: Any, images: Images) -> None:
    server, backend = opened(logprobs=False)
    with pytest.raises(CapabilityError, match=rf"{server.url}.*score.*generate") as stopped:
        list(backend.ask(rows(100), [SCORE], images))
    assert stopped.value.exit_code == 2 and len(server.asked) == 3
    texts, errors = collect(backend.generate(rows(3), images, 8), 3)
    assert errors == [""] * 3 and all(texts["text"])


def test_keys(
    opened: Any, images: Images, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server, without = opened(key=KEY)
    with pytest.raises(ServerError, match=r"needs a key\. Put it into OPENAI_API_KEY"):
        list(without.ask(rows(9), [SCORE], images))
    assert len(server.asked) == 1
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-" + KEY)
    address = f"{server.url}#scripted"
    with pytest.raises(ServerError, match="refuses the key in OPENAI_API_KEY") as stopped:
        list(resolve(address).open().ask(rows(9), [SCORE], images))
    assert KEY not in str(stopped.value) and KEY not in repr(stopped.value.__context__)
    monkeypatch.setenv("MY_KEY", KEY)
    handle = resolve(address, server=ServerOptions(api_key_env="MY_KEY"))
    backend = handle.open()
    _, errors = collect(backend.ask([*rows(2), *rows(1, "nono{}")], [SCORE], images), 3)
    assert server.sent_keys[-1] == f"Bearer {KEY}" and errors == [""] * 3
    server.plan.refuse = "nono"
    _, errors = collect(
        backend.ask(rows(1, "nono{}"), [SCORE], images), 1
    )  # this server repeats the key in its refusal
    assert "[key]" in errors[0]
    written = (
        caplog.text
        + "".join(errors)
        + repr(handle)
        + repr(backend.__dict__)
        + repr(backend.client._transport.__dict__)
    )
    assert KEY not in written


def test_an_unknown_model_stops_the_run(opened: Any, images: Images) -> None:
    server, _ = opened()
    with pytest.raises(NotAModel, match=r"no model 'other'.*does not exist.*It has: scripted"):
        list(resolve(f"{server.url}#other").open().ask(rows(9), [SCORE], images))
    assert len(server.asked) == 1


def test_unsupported_capability_is_refused_without_a_request(opened: Any, images: Images) -> None:
    server, backend = opened()
    for refused in (
        lambda: backend.choice(rows(1), [["a", "b"]], images),
        lambda: list(backend.ask(rows(1), [SURE, Query("?", ("a", "b"), whole=True)], images)),
    ):
        with pytest.raises(CapabilityError, match="Nothing was sent"):
            refused()
    assert not server.asked


# ----------------------------------------------------------------------------------------- dialects


def test_servers_with_fewer_top_logprobs(
    opened: Any, images: Images, caplog: pytest.LogCaptureFixture
) -> None:
    server, backend = opened(top=5)
    values, errors = collect(backend.ask(rows(12), [SCORE], images), 12)
    assert errors == [""] * 12 and len(server.asked) == 13
    assert np.isneginf(values["logprob"]).any() and np.isfinite(values["logprob"]).any()
    assert (
        backend.notes == [n.getMessage() for n in caplog.records]
        and "5 most likely tokens" in backend.notes[0]
    )


def test_servers_with_the_other_parameter_name(opened: Any, images: Images) -> None:
    server, backend = opened(length="max_completion_tokens")
    _, errors = collect(backend.ask(rows(5), [SCORE], images), 5)
    assert errors == [""] * 5 and len(server.asked) == 6


# --------------------------------------------------------------------------------------------- caps


def rows_until_stopped(backend: Any, count: int, queries: Any, images: Images) -> tuple[int, str]:
    seen: list[int] = []
    try:
        for piece in backend.ask(rows(count), queries, images):
            seen += piece.index.tolist()
    except CapReached as stopped:
        return len(seen), str(stopped)
    raise AssertionError("no cap was reached")


def test_request_cap_wastes_no_request(opened: Any, images: Images) -> None:
    server, backend = opened({"max_requests": 11})
    seen, text = rows_until_stopped(backend, 50, [SCORE, SURE], images)
    assert seen == 5 and len(server.asked) == 10  # a sixth row would not have been finished
    assert (
        "max_requests=11" in text and "10 requests" in text and "Run the same command again" in text
    )


def test_cap_below_one_row_is_an_error(opened: Any, images: Images) -> None:
    server, backend = opened({"max_requests": 1})
    seen, text = rows_until_stopped(backend, 3, [SCORE, SURE], images)
    assert seen == len(server.asked) == 0
    # which would never get on
    assert "takes 2" in text and "Run the same command again" not in text


def test_unused_requests_of_a_failed_row_are_available_to_others(
    opened: Any, images: Images
) -> None:
    server, backend = opened({"max_requests": 19}, refuse="Question 0?")
    _, errors = collect(backend.ask(rows(10), [SCORE, SURE], images), 10)
    assert [bool(e) for e in errors] == [True] + [False] * 9 and len(server.asked) == 19


def test_repeated_requests_count(opened: Any, images: Images) -> None:
    server, backend = opened({"max_requests": 40, "timeout": 1.0}, fail=0.4, seed=3, hang=1.5)
    seen, _ = rows_until_stopped(backend, 100, [SCORE], images)
    assert len(server.asked) <= 40 and seen == len(
        [1 for fate, _, _ in server.asked if fate == "ok"]
    )


def test_sufficient_cap_has_no_effect(opened: Any, images: Images) -> None:
    server, backend = opened({"max_requests": 10})
    collect(backend.ask(rows(10), [SCORE], images), 10)
    assert len(server.asked) == 10


def test_cost_is_capped(opened: Any, images: Images) -> None:
    # "Question 1?\nScore?" is 3 words, and one token comes out: 3 * 1 + 1 * 2 = 5 millionths a
    # request
    options = {"price_in": 1.0, "price_out": 2.0, "max_cost": 101e-6}
    server, backend = opened(options)
    seen, text = rows_until_stopped(backend, 100, [SCORE], images)
    assert seen == len(server.asked) == 20
    assert math.isclose(backend.options.cost() or 0, 100e-6) and "about 0.0001" in text


def test_cost_needs_prices_and_usage(opened: Any, images: Images) -> None:
    with pytest.raises(ConfigError, match="price_in"):
        ServerOptions(max_cost=1.0)
    _, backend = opened({"price_in": 1.0, "price_out": 2.0, "max_cost": 1.0}, usage=False)
    with pytest.raises(ServerError, match="max_requests"):
        list(backend.ask(rows(3), [SCORE], images))


def test_two_models_of_a_run_share_its_caps(images: Images) -> None:
    options = ServerOptions(max_requests=6)
    with serving(Plan(models=("a", "b"))) as server:
        one, other = (resolve(f"{server.url}#{name}", server=options).open() for name in "ab")
        collect(one.ask(rows(4), [SCORE], images), 4)
        assert rows_until_stopped(other, 4, [SCORE], images)[0] == 2
        assert len(server.asked) == 6


# ------------------------------------------------------------------------------------ order of work


def test_rows_run_sequentially_until_one_is_answered(opened: Any, images: Images) -> None:
    _, backend = opened({"concurrency": 4}, slow=0.05, refuse="Question 0?")
    busy = 0
    seen = []
    post = backend.client._transport.send

    def counting(*words: Any, **named: Any) -> Any:
        nonlocal busy
        busy += 1
        seen.append(busy)
        try:
            return post(*words, **named)
        finally:
            busy -= 1

    backend.client._transport.send = counting
    collect(backend.ask(rows(12), [SCORE, SURE], images), 12)
    # row 0 is refused at once, row 1 is asked twice
    assert seen[:3] == [1, 1, 1] and max(seen) == 4


def test_rows_are_yielded_as_they_finish(opened: Any, images: Images) -> None:
    _, backend = opened({"timeout": 5.0, "concurrency": 2}, exactly={1: "hang"}, hang=2.0)
    pieces = [p.index.tolist() for p in backend.ask(rows(6), [SCORE], images)]
    assert len(pieces) > 3 and pieces[0] == [0] and pieces[-1][-1] == 1


# -------------------------------------------------------------------------------------- which model


def test_the_only_model_of_a_server_needs_no_name(images: Images) -> None:
    with serving(Plan(name="the/one")) as server:
        handle = resolve(server.url)
        assert handle.name == "the/one" and handle.identity.weights == "api:the/one"
        collect(handle.open().ask(rows(2), [SCORE], images), 2)
    with (
        serving(Plan(models=("a", "b"))) as server,
        pytest.raises(ConfigError, match=r"2 models.*a, b"),
    ):
        resolve(server.url)


def test_identity_is_name_and_pixels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    one = resolve("http://127.0.0.1:1/v1#m").identity
    assert (
        one
        == resolve(
            "https://example.com/v1#m", server=ServerOptions(concurrency=2, max_requests=5)
        ).identity
    )
    assert one != resolve("http://127.0.0.1:1/v1#m", server=ServerOptions(image_side=512)).identity
    assert one != resolve("http://127.0.0.1:1/v1#n").identity
    assert (one.architecture, one.dtype) == ("openai", "server") and "1024px" in one.pixels


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"image_side": 3},
        {"max_requests": 0},
        {"timeout": 0.0},
        {"timeout": math.nan},
        {"max_cost": 0.0, "price_in": 1.0, "price_out": 1.0},
        {"price_in": -1.0},
        {"price_out": math.nan},
    ],
)
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServerOptions(**wrong)
