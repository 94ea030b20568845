"""Access control: only the viewer's own page, at its own address, with its token; and security
headers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from tests.viewer.sessions import KEYS, PORT, TOKEN, Client, session_of
from thresher.viewer.app import application
from thresher.viewer.guard import Guard, Keys
from thresher.viewer.serve import listen
from thresher.viewer.session import Session

OWN = f"http://127.0.0.1:{PORT}"
OPEN = ("/", "/static/viewer.js", "/static/page.css")
SECRET = ("/page", "/rows", "/plots", "/row/0", "/image/0/0", "/nothing", "/static", "/statics/a")
PATHS = (*OPEN, *SECRET)
CHANGES = ("/select", "/pin", "/undo", "/export")


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("passed", headers={"cache-control": "public", "x-own": "1"})(
        scope, receive, send
    )


@pytest.fixture
def guarded() -> TestClient:
    return TestClient(Guard(everything, PORT, KEYS), base_url=OWN)


def opened(guarded: TestClient) -> TestClient:
    guarded.headers.update(TOKEN)
    return guarded


@pytest.mark.parametrize("path", SECRET)
def test_nothing_is_served_without_the_token(guarded: TestClient, path: str) -> None:
    for query in ("", "?token=", f"?token={KEYS.token}", f"?signature={KEYS.token}", "?signature="):
        answer = guarded.get(path + query)
        assert (
            answer.status_code == 403
            and "passed" not in answer.text
            and "set-cookie" not in answer.headers
        )
    for given in (
        "",
        KEYS.token,
        "Bearer ",
        "Bearer wrong",
        f"Basic {KEYS.token}",
        f"Bearer {KEYS.signing}",
        "ä",
    ):
        assert guarded.get(path, headers={"Authorization": given.encode()}).status_code == 403  # type: ignore[dict-item]
    for kept in (f"thresher_view_{PORT}={KEYS.token}", f"token={KEYS.token}", "=;;\x7f"):
        assert guarded.get(path, headers={"Cookie": kept}).status_code == 403
    assert opened(guarded).get(path).text == "passed"


@pytest.mark.parametrize("path", OPEN)
def test_the_empty_page_is_public(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).text == "passed"
    assert guarded.post(path, headers={"Origin": OWN}, json={}).status_code == 403


def test_empty_page_has_no_pool_data(tmp_path: Path) -> None:
    session = session_of(tmp_path, "length", rows=20)
    client = TestClient(Guard(application(session, KEYS), PORT, KEYS), base_url=OWN)
    page = client.get("/")
    assert page.status_code == 200 and "viewer.js" in page.text
    assert str(session.folder) not in page.text and session.folder.name not in page.text
    assert KEYS.token not in page.text and "20 rows" not in page.text


def test_no_answer_sets_a_cookie(tmp_path: Path) -> None:
    """A cookie of 127.0.0.1 is sent to every port, so to any other local server."""
    client = Client(session_of(tmp_path, "length", rows=20))
    for path in ("/", "/page", "/rows", "/plots", "/row/0", "/nothing", "/static/viewer.js"):
        assert "set-cookie" not in client.get(path).headers
    assert "set-cookie" not in client.post("/undo", {}).headers
    assert not list(client.http.cookies.jar)


def test_the_address_of_one_image_opens_that_image_only(guarded: TestClient) -> None:
    address = KEYS.sign("/image/0/0")
    signature = address.partition("?")[2]
    assert guarded.get(address).text == "passed"
    for wrong in (
        f"/image/0/1?{signature}",
        f"/rows?{signature}",
        f"{address}x",
        f"{address}&a=b",
        f"/image/0/0?a=b&{signature}",
        f"/image/0/0?{signature[:-1]}",
        KEYS.sign("/image/0/1").replace("/0/1", "/0/0"),
        Keys().sign("/image/0/0"),
    ):
        assert guarded.get(wrong).status_code == 403, wrong
    assert guarded.post(address, headers={"Origin": OWN}, json={}).status_code == 403
    # another port's page
    assert guarded.get(address, headers={"Sec-Fetch-Site": "same-site"}).status_code == 403


def test_only_the_page_may_be_opened_from_other_origins(guarded: TestClient) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert guarded.get("/", headers=foreign).text == "passed"
    opened(guarded)
    for path in PATHS[1:]:
        assert guarded.get(path, headers=foreign).status_code == 403
        # another port of this machine
        same_site = guarded.get(path, headers={"Sec-Fetch-Site": "same-site"})
        assert same_site.status_code == 403
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
    for path in (*PATHS, KEYS.sign("/image/0/0")):
        assert guarded.get(path, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("head", ["Host:", "Host: ", "Host:\t", "X-Other: 1", "Host: ,127.0.0.1"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_empty_host_is_refused_on_the_wire(tmp_path: Path, head: str, version: str) -> None:
    """As a server gets it, and not as a client library would send it."""
    with served(session_of(tmp_path, "length", rows=20)) as port:
        for path in ("/", "/page", "/static/viewer.js"):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
                asked = (
                    f"GET {path} HTTP/{version}\r\n{head}\r\nAuthorization: Bearer {KEYS.token}\r\n"
                )
                made.sendall(f"{asked}Connection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda made=made: made.recv(65536), b""))
            status = answer.split(b" ", 2)[1]
            assert status in (b"400", b"403"), answer[:200]


@contextmanager
def served(session: Session) -> Iterator[int]:
    import uvicorn

    with listen(0) as made:
        port = made.getsockname()[1]
        app = Guard(application(session, KEYS), port, KEYS)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [made]})
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(timeout=20)


def test_localhost_is_accepted(guarded: TestClient) -> None:
    local = opened(TestClient(guarded.app, base_url=f"http://localhost:{PORT}"))
    assert local.get("/page").text == "passed"
    values = {"Origin": f"http://localhost:{PORT}"}
    assert local.post("/pin", json={}, headers=values).text == "passed"
    assert local.post("/pin", json={}, headers=values | {"Origin": OWN}).status_code == 403


@pytest.mark.parametrize("path", CHANGES)
def test_changes_need_the_token_and_the_own_origin(guarded: TestClient, path: str) -> None:
    values = {"Origin": OWN}
    assert guarded.post(path, json={}, headers=values).status_code == 403  # no token
    assert guarded.post(KEYS.sign(path), json={}, headers=values).status_code == 403
    opened(guarded)
    assert guarded.post(path, json={}, headers=values).text == "passed"
    for wrong in (
        "http://evil.example",
        f"http://127.0.0.1:{PORT + 1}",
        f"https://127.0.0.1:{PORT}",
        "null",
        "",
    ):
        assert guarded.post(path, json={}, headers={"Origin": wrong}).status_code == 403
    assert guarded.post(path, json={}).status_code == 403
    for wrong in ("", "Bearer", f"Bearer {KEYS.token}x", KEYS.token, "ä"):
        assert (
            guarded.post(
                path, json={}, headers={**values, "Authorization": wrong.encode()}
            ).status_code
            == 403
        )  # type: ignore[dict-item]
    assert (
        guarded.post(path, json={}, headers=values | {"Sec-Fetch-Site": "cross-site"}).status_code
        == 403
    )


def test_a_doubled_header_is_refused(guarded: TestClient) -> None:
    opened(guarded)
    assert (
        guarded.get(
            "/", headers=[("Host", f"127.0.0.1:{PORT}"), ("Host", f"127.0.0.1:{PORT}")]
        ).status_code
        == 403
    )
    own = ("Authorization", TOKEN["Authorization"])
    doubled = TestClient(guarded.app, base_url=OWN).get("/page", headers=[own, own])
    assert doubled.status_code == 403
    assert (
        guarded.get(
            "/page", headers=[("Origin", OWN), ("Origin", "http://evil.example")]
        ).status_code
        == 403
    )


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(guarded: TestClient, method: str) -> None:
    assert opened(guarded).request(method, "/pin").status_code == 405


def test_changes_are_never_made_by_get(tmp_path: Path) -> None:
    client = Client(session_of(tmp_path, "length", rows=20))
    for path in CHANGES:
        assert client.get(path).status_code == 405


def test_large_body_or_body_without_length_is_refused(guarded: TestClient) -> None:
    values = {"Origin": OWN}
    opened(guarded)
    assert guarded.post("/pin", content=b"x" * 100_001, headers=values).status_code == 413
    assert guarded.post("/pin", content=iter([b"x"]), headers=values).status_code == 413
    assert (
        guarded.post("/pin", content=b"x", headers=values | {"Content-Length": "1e1"}).status_code
        == 413
    )


def test_other_content_types_are_refused(tmp_path: Path) -> None:
    client = Client(session_of(tmp_path, "length", rows=20))
    values = {"Origin": OWN}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert (
            client.http.post(
                "/undo", content=b"{}", headers=values | {"Content-Type": kind}
            ).status_code
            == 400
        )
    for body in (b"", b"{", b"[" * 50_000, b"\xff", b"NaN", b'"text"'):
        answer = client.http.post(
            "/undo", content=body, headers=values | {"Content-Type": "application/json"}
        )
        assert answer.status_code == 400


def test_websockets_are_refused(guarded: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), guarded.websocket_connect("/"):
        pass


@pytest.mark.parametrize("status", [200, 403, 404])
def test_every_answer_has_the_headers(guarded: TestClient, status: int) -> None:
    answer = guarded.get("/page")
    if status == 200:
        answer = opened(guarded).get("/")
    elif status == 404:
        answer = opened(guarded).get("/nothing")
    result = answer.headers
    policy = dict(
        part.strip().partition(" ")[::2] for part in result["content-security-policy"].split(";")
    )
    assert (
        policy["default-src"] == "'none'"
        and policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    )
    assert (
        policy["script-src"]
        == policy["style-src"]
        == policy["img-src"]
        == policy["connect-src"]
        == "'self'"
    )
    assert "unsafe" not in result["content-security-policy"]
    assert (
        result["x-content-type-options"] == "nosniff" and result["referrer-policy"] == "no-referrer"
    )
    assert result.get_list("cache-control") == ["no-store"] and result["x-frame-options"] == "DENY"
    assert (
        result["cross-origin-resource-policy"]
        == result["cross-origin-opener-policy"]
        == "same-origin"
    )


def test_a_bug_shows_no_traceback_and_keeps_the_headers() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret path")

    from starlette.applications import Starlette
    from starlette.routing import Mount

    client: Any = TestClient(
        Guard(Starlette(routes=[Mount("/", broken)]), PORT, KEYS),
        base_url=OWN,
        raise_server_exceptions=False,
    )
    answer = client.get("/page", headers=TOKEN)
    assert (
        answer.status_code == 500
        and "secret" not in answer.text
        and "content-security-policy" in answer.headers
    )


def test_tokens_are_long_and_differ() -> None:
    a, b = Keys(), Keys()
    every = [a.token, a.signing, b.token, b.signing]
    assert len(set(every)) == 4 and min(map(len, every)) >= 43
