"""Who may ask: only the viewer's own page, by its own address, with its tokens; and every answer says what a browser may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from tests.viewer.opened import KEYS, PORT, Client, session_of
from thresher.viewer.guard import Guard, Keys

OWN = f"http://127.0.0.1:{PORT}"
PATHS = ("/", "/rows", "/plots", "/image/0/0", "/static/viewer.js", "/static/page.css", "/nothing")
CHANGES = ("/select", "/pin", "/undo", "/export")


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("passed", headers={"cache-control": "public", "x-own": "1"})(scope, receive, send)


@pytest.fixture
def guarded() -> TestClient:
    return TestClient(Guard(everything, PORT, KEYS), base_url=OWN)


def opened(guarded: TestClient) -> TestClient:
    assert guarded.get(f"/?token={KEYS.address}").text == "passed"
    return guarded


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_told_without_the_token(guarded: TestClient, path: str) -> None:
    for query in ("", "?token=", "?token=wrong", f"?token={KEYS.cookie}", f"?token=x&token={KEYS.address}"):
        answer = guarded.get(path + query)
        assert answer.status_code == 403 and "passed" not in answer.text and "set-cookie" not in answer.headers
    for kept in (f"thresher_view_{PORT}={KEYS.address}", f"other={KEYS.cookie}", "thresher_view", "=;;\x7f"):
        assert guarded.get(path, headers={"Cookie": kept}).status_code == 403


def test_the_address_works_for_the_first_page_only(guarded: TestClient) -> None:
    for path in PATHS[1:]:
        assert guarded.get(f"{path}?token={KEYS.address}").status_code == 403
    answer = guarded.get(f"/?token={KEYS.address}")
    kept = answer.headers["set-cookie"]
    assert answer.text == "passed" and KEYS.address not in kept
    assert kept == f"thresher_view_{PORT}={KEYS.cookie}; Path=/; HttpOnly; SameSite=Strict"
    for path in PATHS:
        assert guarded.get(path).text == "passed"
    others = (
        f'_xsrf=2|a|b; user-127="2|1:0|x="; broken; =; thresher_view_{PORT}={KEYS.cookie}; {{}}=1'  # of other ports
    )
    assert TestClient(guarded.app, base_url=OWN).get("/", headers={"Cookie": others}).text == "passed"
    assert "set-cookie" not in guarded.get("/").headers


def test_the_page_may_be_opened_from_anywhere_and_nothing_else(guarded: TestClient) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert guarded.get(f"/?token={KEYS.address}", headers=foreign).text == "passed"
    for path in PATHS:
        assert guarded.get(path, headers=foreign).status_code == 403
        assert (
            guarded.get(path, headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
        )  # another port of this machine
        assert guarded.get(path, headers={"Sec-Fetch-Site": "same-origin"}).text == "passed"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1.evil.example:{PORT}",
        "",
    ],
)
def test_a_foreign_host_is_refused_even_with_the_token(guarded: TestClient, host: str) -> None:
    opened(guarded)
    for path in (*PATHS, f"/?token={KEYS.address}"):
        assert guarded.get(path, headers={"Host": host}).status_code == 403


def test_localhost_is_this_machine_too(guarded: TestClient) -> None:
    local = TestClient(guarded.app, base_url=f"http://localhost:{PORT}")
    assert local.get(f"/?token={KEYS.address}").text == "passed"
    told = {"Origin": f"http://localhost:{PORT}", "X-Thresher-Token": KEYS.form}
    assert local.post("/pin", json={}, headers=told).text == "passed"
    assert local.post("/pin", json={}, headers=told | {"Origin": OWN}).status_code == 403


@pytest.mark.parametrize("path", CHANGES)
def test_changes_need_the_cookie_the_header_and_the_own_origin(guarded: TestClient, path: str) -> None:
    told = {"Origin": OWN, "X-Thresher-Token": KEYS.form}
    assert guarded.post(path, json={}, headers=told).status_code == 403  # no cookie
    assert guarded.post(f"{path}?token={KEYS.address}", json={}, headers=told).status_code == 403
    opened(guarded)
    assert guarded.post(path, json={}, headers=told).text == "passed"
    for wrong in ("http://evil.example", f"http://127.0.0.1:{PORT + 1}", f"https://127.0.0.1:{PORT}", "null", ""):
        assert guarded.post(path, json={}, headers=told | {"Origin": wrong}).status_code == 403
    assert guarded.post(path, json={}, headers={"X-Thresher-Token": KEYS.form}).status_code == 403
    for wrong in ("", KEYS.cookie, KEYS.address, KEYS.form + "x", "ä"):
        assert guarded.post(path, json={}, headers={**told, "X-Thresher-Token": wrong.encode()}).status_code == 403  # type: ignore[dict-item]
    assert guarded.post(path, json={}, headers=told | {"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_doubled_header_is_refused(guarded: TestClient) -> None:
    opened(guarded)
    assert guarded.get("/", headers=[("Host", f"127.0.0.1:{PORT}"), ("Host", f"127.0.0.1:{PORT}")]).status_code == 403
    assert guarded.get("/", headers=[("Origin", OWN), ("Origin", "http://evil.example")]).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(guarded: TestClient, method: str) -> None:
    assert opened(guarded).request(method, "/pin").status_code == 405


def test_changes_are_never_made_by_get(tmp_path: Path) -> None:
    client = Client(session_of(tmp_path, "length", rows=20))
    for path in CHANGES:
        assert client.get(path).status_code == 405


def test_a_large_or_unmeasured_body_is_refused(guarded: TestClient) -> None:
    told = {"Origin": OWN, "X-Thresher-Token": KEYS.form}
    opened(guarded)
    assert guarded.post("/pin", content=b"x" * 100_001, headers=told).status_code == 413
    assert guarded.post("/pin", content=iter([b"x"]), headers=told).status_code == 413
    assert guarded.post("/pin", content=b"x", headers=told | {"Content-Length": "1e1"}).status_code == 413


def test_other_kinds_of_bodies_are_refused(tmp_path: Path) -> None:
    client = Client(session_of(tmp_path, "length", rows=20))
    told = {"Origin": OWN, "X-Thresher-Token": KEYS.form}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.http.post("/undo", content=b"{}", headers=told | {"Content-Type": kind}).status_code == 400
    for body in (b"", b"{", b"[" * 50_000, b"\xff", b"NaN", b'"text"'):
        answer = client.http.post("/undo", content=body, headers=told | {"Content-Type": "application/json"})
        assert answer.status_code == 400


def test_websockets_are_refused(guarded: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), guarded.websocket_connect("/"):
        pass


@pytest.mark.parametrize("status", [200, 403, 404])
def test_every_answer_has_the_headers(guarded: TestClient, status: int) -> None:
    answer = guarded.get("/")
    if status == 200:
        answer = opened(guarded).get("/")
    elif status == 404:
        answer = opened(guarded).get("/nothing")
    told = answer.headers
    policy = dict(part.strip().partition(" ")[::2] for part in told["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["img-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in told["content-security-policy"]
    assert told["x-content-type-options"] == "nosniff" and told["referrer-policy"] == "no-referrer"
    assert told.get_list("cache-control") == ["no-store"] and told["x-frame-options"] == "DENY"
    assert told["cross-origin-resource-policy"] == told["cross-origin-opener-policy"] == "same-origin"


def test_a_bug_shows_no_traceback_and_keeps_the_headers() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret path")

    from starlette.applications import Starlette
    from starlette.routing import Mount

    client: Any = TestClient(
        Guard(Starlette(routes=[Mount("/", broken)]), PORT, KEYS), base_url=OWN, raise_server_exceptions=False
    )
    answer = client.get(f"/?token={KEYS.address}")
    assert answer.status_code == 500 and "secret" not in answer.text and "content-security-policy" in answer.headers


def test_tokens_are_long_and_differ() -> None:
    a, b = Keys(), Keys()
    every = [a.address, a.cookie, a.form, b.address, b.cookie, b.form]
    assert len(set(every)) == 6 and min(map(len, every)) >= 43
