"""Faulty servers: their messages reach the user, row failures and outages are distinguished, and
keys are not leaked."""

from __future__ import annotations

import logging
import math
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.openai.asked_rows import SCORE, Images, collect, rows
from tests.backends.openai.odd_server import (
    Answer,
    OddServer,
    answering,
    completion,
    ok,
    said,
    sending,
)
from thresher.backends import resolve
from thresher.backends.openai.options import ServerOptions
from thresher.errors import CapabilityError, ConfigError, ServerError
from thresher.types import ImageRef, RowError, Sample, Turn

Answering = Callable[[dict[str, Any]], Answer]


def opened(server: OddServer | str, **options: Any) -> Any:
    url = server if isinstance(server, str) else server.url
    return resolve(
        f"{url}#m",
        server=ServerOptions(**{"backoff": 0.01, "timeout": 20.0, "tries": 6, **options}),
    ).open()


def until_stopped(backend: Any, count: int, images: Images) -> tuple[list[str], str]:
    """The errors of the rows that came before the run stopped, and why it did."""
    seen: list[str] = []
    try:
        for piece in backend.ask(rows(count), [SCORE], images):
            seen += piece.errors
    except ServerError as stopped:
        return seen, str(stopped)
    raise AssertionError("the run went on")


def always(code: int, body: Any, **headers: str) -> Answering:
    return lambda _: (code, body, headers)


# --------------------------------------------------------------------------------- rows and outages


@pytest.mark.parametrize(
    ("bad", "failure"),
    [
        (
            (500, {"object": "error", "message": "height:26 must be larger than factor:28"}),
            "height:26 must be larger",
        ),
        (
            (200, {"error": {"message": "image too large for upstream", "code": 502}}),
            "image too large for upstream",
        ),
        ((500, b"Internal Server Error"), "HTTP 500"),
        ((503, b"<html><title>503 worker crashed</title></html>"), "503 worker crashed"),
    ],
)
@pytest.mark.parametrize("first", [0, 8])
def test_rows_that_the_server_rejects_fail_and_others_are_scored(
    images: Images, bad: tuple[int, Any], failure: str, first: int
) -> None:
    failing = [f"Question {i}?" for i in range(first, first + 12)]

    def answer(body: dict[str, Any]) -> Answer:
        return (*bad, {}) if any(q in said(body) for q in failing) else ok()

    with answering(answer) as server:
        values, errors = collect(opened(server, tries=3).ask(rows(24), [SCORE], images), 24)
        wrong = [i for i, e in enumerate(errors) if e]
        assert wrong == list(range(first, first + 12))
        assert all(failure in errors[i] for i in wrong)
        assert {RowError.parse(errors[i]).kind for i in wrong} == {"server"}
        assert np.isfinite(
            values["logprob"][[i for i in range(24) if i not in wrong]].max(axis=1)
        ).all()
        only = rows(24)[first : first + 12]
        _, errors = collect(opened(server, tries=3).ask(only, [SCORE], images), 12)
        assert all(failure in e for e in errors)  # nothing else is left, and the run ends


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ((400, {"message": "no tables"}), "server"),
        ((400, {"message": "longer than the context length"}), "too long"),
        ((200, completion(None, refusal="no")), "refused"),
        ((200, completion(None, reasoning="hm")), "only-reasoning"),
    ],
)
def test_a_refusal_has_a_kind(images: Images, bad: tuple[int, Any], kind: str) -> None:
    with answering(lambda b: (*bad, {}) if "Question 3?" in said(b) else ok()) as server:
        _, errors = collect(opened(server, tries=1).generate(rows(8), images, 8), 8)
    assert [RowError.parse(e).kind for e in errors if e] == [kind]


@pytest.mark.parametrize(
    ("bad", "failure"),
    [
        ((400, b""), "server: the server refuses it (HTTP 400)"),
        ((200, completion(None, refusal=" \n")), "refused: the model refuses to answer"),
    ],
)
def test_a_refusal_without_a_message_has_no_dangling_colon(
    images: Images, bad: tuple[int, Any], failure: str
) -> None:
    with answering(lambda b: (*bad, {}) if "Question 3?" in said(b) else ok()) as server:
        _, errors = collect(opened(server, tries=1).ask(rows(8), [SCORE], images), 8)
    assert [i for i, e in enumerate(errors) if e] == [3] and errors[3] == failure


def test_repeated_errors_are_abandoned_sooner(images: Images) -> None:
    with answering(lambda b: (500, b"", {}) if "Say yes." not in said(b) else ok()) as server:
        _, errors = collect(
            opened(server, tries=12, concurrency=1).ask(rows(5), [SCORE], images), 5
        )
    tries = [int(e.partition("given up after ")[2].split()[0]) for e in errors]
    assert tries == [13, 13, 6, 6, 6]


def test_rows_abandoned_during_an_outage_are_requested_again(images: Images) -> None:
    refused = {"left": 0, "begun": 0}

    def answer(body: dict[str, Any]) -> Answer:
        if "Question 5?" in said(body) and not refused["begun"]:
            refused.update(left=4, begun=1)
        if not refused["left"]:
            return ok()
        refused["left"] -= 1
        return 500, b"", {}

    with answering(answer) as server:
        _, errors = collect(
            opened(server, tries=2, concurrency=2, backoff=0.2).ask(rows(30), [SCORE], images), 30
        )
    assert errors == [""] * 30


@pytest.mark.parametrize("after", [3, 20])
def test_outage_stops_the_run_without_row_failures(images: Images, after: int) -> None:
    count = 0

    def answer(body: dict[str, Any]) -> Answer:
        nonlocal count
        count += 1
        return (
            ok()
            if count <= after
            else (500, {"error": {"message": "EngineDeadError: see the log"}}, {})
        )

    with answering(answer) as server:
        seen, message = until_stopped(opened(server), 25, images)
    assert seen == [""] * after
    assert (
        "errors only" in message
        and "EngineDeadError" in message
        and "same command again" in message
    )


# ------------------------------------------------------------------------------- the server's words


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            (
                200,
                {
                    "error": {
                        "message": "Provider returned error",
                        "metadata": {"raw": "too many pixels"},
                    }
                },
            ),
            "too many pixels",
        ),
        (
            (200, {"object": "error", "message": "only one image at a time", "code": 50001}),
            "only one image at a time",
        ),
        (
            (429, [{"error": {"code": 429, "message": "Quota exceeded for tokens per day"}}]),
            "Quota exceeded for tokens",
        ),
        ((502, b"<html><head><title>502 Bad Gateway</title></head></html>"), "502 Bad Gateway"),
        ((503, {"detail": "model is loading"}), "model is loading"),
        (
            (200, b'data: {"choices": [{"delta": {"content": "4"}}]}\n\ndata: [DONE]\n\n'),
            "a stream of events",
        ),
        ((200, b"<!doctype html><title>Open WebUI</title>"), "Open WebUI"),
        ((200, {"choices": [], "usage": None}), "no choices"),
        ((200, {"choices": None}), "no list of choices"),
        ((200, ["m"]), "not a chat completion"),
        (
            (200, {"choices": [{"error": {"message": "upstream reset"}, "message": {}}]}),
            "upstream reset",
        ),
        ((402, {"error": {"message": "Insufficient Balance"}}), "Insufficient Balance"),
        ((403, {"error": {"message": "Country not supported"}}), "Country not supported"),
    ],
)
def test_message_of_a_server_that_rejects_everything(
    images: Images, reply: tuple[int, Any], words: str
) -> None:
    with answering(always(*reply)) as server, pytest.raises(ServerError, match="127") as stopped:
        list(opened(server, tries=3).ask(rows(50), [SCORE], images))
    assert words in str(stopped.value) and len(server.asked) <= 4


@pytest.mark.parametrize("value", [None, math.nan, -9999.0, -1e400])
def test_null_logprob_is_minus_infinity(images: Images, value: Any) -> None:
    body = completion()
    body["choices"][0]["logprobs"]["content"][0]["top_logprobs"][1]["logprob"] = value
    with answering(always(200, body)) as server:
        values, errors = collect(opened(server).ask(rows(2), [SCORE], images), 2)
    assert errors == ["", ""] and np.isneginf(values["logprob"][:, 3]).all()
    assert values["logprob"][0, 4] == pytest.approx(-0.3)


def test_key_repeated_by_the_server_is_redacted(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-proj-5up3rs3cr3t-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    refusal = {
        "error": {"message": (f"Incorrect API key provided: {key[:9]}***{key[-6:]}. Full: {key}")}
    }
    with (
        answering(always(401, refusal)) as server,
        pytest.raises(ServerError, match="Incorrect API key") as stopped,
    ):
        list(opened(server).ask(rows(3), [SCORE], images))
    assert "5up3r" not in str(stopped.value) and key[-6:] not in str(stopped.value)


# --------------------------------------------------------------------------------------- parameters


def refuses(
    name: str, message: str, *, unless: Callable[[dict[str, Any]], bool] = lambda b: False
) -> Answering:
    def answer(body: dict[str, Any]) -> Answer:
        if name in body and not unless(body):
            return 400, {"error": {"message": message, "type": "invalid_request_error"}}, {}
        choices = [completion(text=f"draw {k}")["choices"][0] for k in range(body.get("n", 1))]
        return 200, {**completion(), "choices": choices}, {}

    return answer


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("n", "n : number must be at most 1"),
        ("n", "'n' is not supported with this model"),
        ("seed", "Argument not supported on this model: seed"),
        (
            "seed",
            '{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are '
            'not permitted"}]}',
        ),
        ("temperature", "Unsupported value: 'temperature' does not support 0.7 with this model."),
        ("temperature", "`temperature` is deprecated for this model."),
        ("stream", "Unrecognized request argument supplied: stream"),
        ("max_tokens", "max_tokens is not supported, use max_completion_tokens instead"),
    ],
)
def test_parameter_named_in_a_refusal_is_adapted_with_one_warning(
    images: Images, caplog: pytest.LogCaptureFixture, name: str, message: str
) -> None:
    with answering(refuses(name, message)) as server:
        backend = opened(server)
        values, errors = collect(backend.sample(rows(12), images, 2, 0.7, 8, 1), 12)
    assert errors == [""] * 12 and all(values["text_1"])
    assert len([b for b in server.asked if name in b]) == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1 and name in warnings[0] and backend.notes == warnings


def test_several_parameters_are_adapted_in_turn(images: Images) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        for name in ("seed", "temperature", "n", "max_tokens"):
            if name in body:
                loc = [
                    {
                        "loc": ["body", name],
                        "msg": "Extra inputs are not permitted",
                        "input": "a seed, temperature 3",
                    }
                ]
                return 422, {"detail": loc}, {}
        return ok()

    with answering(answer) as server:
        _, errors = collect(opened(server).sample(rows(6), images, 3, 0.7, 8, 1), 6)
    assert errors == [""] * 6 and len(server.asked) == 4 + 6 * 3


@pytest.mark.parametrize(
    ("message", "temperature"),
    [
        ("`temperature` must be strictly positive", 0.01),
        (("temperature: only the default (1) is supported"), None),
    ],
)
def test_temperature_zero(images: Images, message: str, temperature: float | None) -> None:
    with answering(
        refuses("temperature", message, unless=lambda b: b["temperature"] > 0)
    ) as server:
        _, errors = collect(opened(server).ask(rows(4), [SCORE], images), 4)
    assert errors == [""] * 4 and server.asked[-1].get("temperature") == temperature


def test_too_small_limit_is_raised(images: Images) -> None:
    message = (
        "Invalid 'max_tokens': integer below minimum value. Expected a value >= 16, but got 1 "
        "instead."
    )
    with answering(
        refuses("max_tokens", message, unless=lambda b: b["max_tokens"] >= 16)
    ) as server:
        _, errors = collect(opened(server).ask(rows(4), [SCORE], images), 4)
    assert errors == [""] * 4 and [b["max_tokens"] for b in server.asked] == [1, 16, 16, 16, 16]


@pytest.mark.parametrize(
    "message",
    ["property 'logprobs' is unsupported", ("logprobs are not supported with reasoning models")],
)
def test_refusal_of_a_required_parameter_stops_the_run(images: Images, message: str) -> None:
    with (
        answering(refuses("logprobs", message)) as server,
        pytest.raises(CapabilityError, match=r"score.*generate"),
    ):
        list(opened(server).ask(rows(9), [SCORE], images))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        (400, {"error": {"message": "This model does not support image input"}}),
        (400, b"<html><body>Request Header Or Cookie Too Large</body></html>"),
        (200, completion(None, "length", reasoning="Let me think about this")),
        (200, completion(None, refusal="I cannot help with that")),
    ],
)
def test_repeated_refusals_before_any_answer_stop_the_run(
    images: Images, reply: tuple[int, Any]
) -> None:
    with answering(always(*reply)) as server:
        seen, message = until_stopped(opened(server), 200, images)
    assert not seen and "refuses every request" in message and len(server.asked) == 4


def test_row_specific_refusals_at_the_start_are_row_failures(images: Images) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        image_list = [
            p
            for m in body["messages"]
            for p in m["content"]
            if isinstance(p, dict) and "image_url" in p
        ]
        small = image_list and len(image_list[0]["image_url"]["url"]) < 300
        return (400, {"error": {"message": "the image is too small"}}, {}) if small else ok()

    with_images = [
        Sample(str(i), (Turn("user", f"<image>\nWhat {i}?"),), (ImageRef(path=f"{i}.png"),))
        for i in range(9)
    ]
    with answering(answer) as server:
        _, errors = collect(opened(server).ask(with_images, [SCORE], images), 9)
    assert all("the image is too small" in e for e in errors)
    assert len(server.asked) == 10  # each row once, and a probe request with a plain image


# -------------------------------------------------------------------------- models, redirects, keys


@pytest.mark.parametrize(
    "reply",
    [
        (404, b"<html>not found</html>"),
        (405, b""),
        (200, ["m1"]),
        (200, {"models": ["a"]}),
        (200, b"pong"),
    ],
)
def test_server_without_a_model_list(reply: tuple[int, Any]) -> None:
    with (
        answering(always(*reply)) as server,
        pytest.raises(ServerError, match=r"does not say which models.*`model`"),
    ):
        resolve(server.url)


@pytest.mark.parametrize("code", [301, 307, 308])
def test_redirects_on_the_same_host_are_followed(
    images: Images, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890")

    def answer(body: dict[str, Any]) -> Answer:
        return (
            ok()
            if server.paths[-1].endswith("/")
            else (code, b"", {"Location": server.paths[-1] + "/"})
        )

    with answering(answer) as server:
        _, errors = collect(opened(server).ask(rows(5), [SCORE], images), 5)
    assert errors == [""] * 5 and len(server.asked) == 6 and server.asked[0] == server.asked[1]
    assert all(key == "Bearer sk-1234567890" for key in server.keys)


@pytest.mark.parametrize("code", [302, 307])
def test_key_is_sent_to_no_other_server(
    images: Images, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890")
    with answering(lambda body: ok()) as other:
        target = other.url + "/chat/completions?token=1"
        with (
            answering(always(code, b"", Location=target)) as server,
            pytest.raises(ServerError, match="another server") as stopped,
        ):
            list(opened(server).ask(rows(5), [SCORE], images))
        assert (
            not other.asked
            and f'url="{other.url}"' in str(stopped.value)
            and "token" not in str(stopped.value)
        )


@pytest.mark.parametrize(
    "headers", [{}, {"Location": "http://["}, {"Location": "/v1/chat/completions"}]
)
def test_invalid_redirects(images: Images, headers: dict[str, str]) -> None:
    with (
        answering(lambda _: (307, b"", headers)) as server,
        pytest.raises(ServerError, match=r"307|without end"),
    ):
        list(opened(server).ask(rows(5), [SCORE], images))
    assert len(server.asked) <= 5


# ------------------------------------------------------------------------------------------ attacks

DEEP = b'{"choices": ' + b"[" * 2000 + b"]" * 2000 + b"}"
HUGE = b"9" * 400
TOP = (
    b'{"choices": [{"logprobs": {"content": [{"token": "4", "logprob": %s, "top_logprobs": '
    b'[{"token": "4", "logprob": %s}]}]}}]}'
)


@pytest.mark.parametrize(
    "raw",
    [
        DEEP,
        b'{"error": ' + b'{"message": ' * 2000 + b'"no"' + b"}" * 2001,
        b'{"choices": [{"message": {"content": ' + b"[" * 2000 + b"]" * 2000 + b"}}]}",
        b'{"choices": [{"message": {"content": 7}, "logprobs": 7}]}',
        b'{"choices": [7]}',
        b"[" * 100_000,
        TOP % (HUGE, HUGE),
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": %s}}' % HUGE,
    ],
    ids=range(8),
)
def test_hostile_answers_are_row_failures(images: Images, raw: bytes) -> None:
    with answering(lambda b: (200, raw, {}) if "1?" in said(b) else ok()) as server:
        backend = opened(server, tries=2)
        _, errors = collect(backend.ask(rows(4), [SCORE], images), 4)
        assert [bool(e) for e in errors] == [False, True, False, False]
        assert "Error" not in errors[1] and errors[1].isprintable() and len(errors[1]) < 400
        _, errors = collect(backend.generate(rows(4), images, 8), 4)
        assert not errors[0] and "Error" not in errors[1]


def test_lone_surrogates_are_removed_from_texts_and_names(images: Images) -> None:
    with answering(always(200, completion("4 \ud800 four \ud83d\ude00"))) as server:
        values, _ = collect(opened(server).generate(rows(1), images, 8), 1)
    assert values["text"][0] == "4 \ufffd four \U0001f600"
    refusal = {"error": {"message": "no \udfff way\x1b[31m\x00"}}
    with answering(always(403, refusal)) as server, pytest.raises(ServerError) as stopped:
        list(opened(server).ask(rows(1), [SCORE], images))
    str(stopped.value).encode("utf-8")
    assert str(stopped.value).isprintable() and "no \ufffd way" in str(stopped.value)
    with (
        answering(always(200, {"data": [{"id": "a\ud800"}, {"id": "b\x1b"}]})) as server,
        pytest.raises(ConfigError) as two,
    ):
        resolve(server.url)
    str(two.value).encode("utf-8")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b" "] * 100],
        [bytes([c]) for c in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 100],
    ],
    ids=["body", "headers"],
)
def test_slow_answer_ends_at_the_timeout(images: Images, pieces: list[bytes]) -> None:
    began = time.monotonic()
    with (
        sending(pieces, 0.2) as port,
        pytest.raises(ServerError, match="no complete answer within 1 s"),
    ):
        list(
            opened(f"http://127.0.0.1:{port}/v1", timeout=1.0, tries=1).ask(
                rows(3), [SCORE], images
            )
        )
    assert time.monotonic() - began < 30


def test_endless_answer_is_limited(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thresher.backends.openai.transport.MAX_BYTES", 1 << 20)
    with (
        answering(always(200, b" " * (2 << 20))) as server,
        pytest.raises(ServerError, match="larger than 1 MiB"),
    ):
        list(opened(server, tries=2).ask(rows(3), [SCORE], images))


# ---------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("tls")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    try:
        subprocess.run(
            [*command, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no openssl here to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_tls_errors_are_reported_at_once(images: Images, certificate: ssl.SSLContext) -> None:
    def stopped(url: str) -> str:
        began = time.monotonic()
        with pytest.raises(ServerError) as error:
            list(opened(url, tries=12, backoff=0.5).ask(rows(3), [SCORE], images))
        assert time.monotonic() - began < 30
        return str(error.value)

    with sending([], 0, lambda s: certificate.wrap_socket(s, server_side=True)) as port:
        assert "certificate cannot be trusted: self" in stopped(f"https://127.0.0.1:{port}/v1")
        assert "Give https:// instead of http://" in stopped(f"http://127.0.0.1:{port}/v1")
    with answering(lambda _: ok()) as plain:
        assert "Should it be http:// instead of https://?" in stopped(
            plain.url.replace("http:", "https:")
        )
    with sending([b"+OK POP3 ready\r\n\r\n"], 0) as port:
        assert "does not speak HTTP" in stopped(f"http://127.0.0.1:{port}/v1")
