"""Who may ask: every request passes here before any route, and every answer gets the headers that a browser needs to be told.

Another page in the same browser, or another host name that resolves to this machine, must learn nothing and change nothing:

    Host      exactly this address and port (a foreign name that resolves to 127.0.0.1 is refused)
    token     in the address of the first page; from then on in a cookie (HttpOnly, SameSite=Strict)
    POST      also a second token in a header that only the page's own script can set, and the page's own Origin
    Origin, Sec-Fetch-Site   foreign ones are refused, but for the first page, which may be opened from anywhere with its token

Plain ASGI: knows nothing of routes. Tokens are compared in constant time.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = b"x-thresher-token"
MOST_BYTES = 100_000  # of a request's body
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


def new_token() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Keys:
    """`address`: what stands in the URL; `cookie`: what a browser that opened it keeps; `form`: what the page's script sends."""

    address: str = field(default_factory=new_token)
    cookie: str = field(default_factory=new_token)
    form: str = field(default_factory=new_token)


class Guard:
    """Wraps `app`. `port`: of the server."""

    def __init__(self, app: App, port: int, keys: Keys) -> None:
        self.app, self.keys = app, keys
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self.cookie = f"thresher_view_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = _single(scope["headers"])
        refused = self._refusal(scope, headers)
        if refused is not None:
            status, why = refused
            await _answer(self._telling(send, False), status, why)
            return
        await self.app(scope, receive, self._telling(send, self._has_address(scope)))

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        """(status, why), or None for a request that may pass."""
        method, first = scope["method"], scope["path"] == "/"
        if method not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST are answered here."
        host = headers.get(b"host", "").lower()
        if host not in self.hosts:
            return 403, "This address is not the viewer's. Open the address that thresher view printed."
        opened = first and method != "POST" and self._has_address(scope)
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        own = f"http://{host}"
        if not opened and (origin not in (None, own) or site not in (None, "same-origin", "none")):
            return 403, "Another page asked. Only the viewer's own page may."
        if not opened and not _equal(self._kept(headers), self.keys.cookie):
            return 403, "The token is missing or wrong. Open the address that thresher view printed."
        if method == "POST":
            if origin != own or not _equal(headers.get(HEADER, ""), self.keys.form):
                return 403, "Changes are taken from the viewer's own page only. Load it again."
            length = headers.get(b"content-length", "")
            if not (length.isdecimal() and int(length) <= MOST_BYTES):
                return 413, "The request is too large."
        return None

    def _has_address(self, scope: Scope) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
        return len(given) == 1 and _equal(given[0], self.keys.address)

    def _kept(self, headers: dict[bytes, str]) -> str:
        """The viewer's cookie. Read by hand: cookies of this machine's other ports come along, well formed or not."""
        pairs = [part.strip().partition("=") for part in headers.get(b"cookie", "").split(";")]
        mine = [value for name, _, value in pairs if name == self.cookie]
        return mine[0] if len(mine) == 1 else ""

    def _telling(self, send: Send, opened: bool) -> Send:
        async def tell(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                named = {name for name, _ in HEADERS}
                headers = [pair for pair in message.get("headers", []) if pair[0].lower() not in named]
                headers += HEADERS
                if opened:
                    kept = f"{self.cookie}={self.keys.cookie}; Path=/; HttpOnly; SameSite=Strict"
                    headers.append((b"set-cookie", kept.encode()))
                message = {**message, "headers": headers}
            await send(message)

        return tell


def _single(headers: list[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Headers by name; of one that comes twice, what no check accepts."""
    out: dict[bytes, str] = {}
    for name, value in headers:
        name = name.lower()
        out[name] = "\n" if name in out and name != b"cookie" else value.decode("latin-1")
    return out


def _equal(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


async def _answer(send: Send, status: int, text: str) -> None:
    body = (text + "\n").encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
