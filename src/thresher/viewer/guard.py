"""Access control: every request passes here before any route, and every response gets security
headers.

Another page in the same browser, another program on this machine, or another host name that
resolves to it must learn nothing and change nothing:

    Host      exactly this address and port, so a foreign name that resolves to 127.0.0.1 is refused
    token     after the `#` of the printed address, which browsers never send; the page's script
              keeps it (sessionStorage, which belongs to one port) and sends it as
              `Authorization: Bearer`
    images    `<img>` sends no such header: their addresses are signed one by one
    POST      also needs the page's own Origin
    Origin, Sec-Fetch-Site   foreign ones are refused, except to open the page, which is empty

There is no cookie: a browser would send it to every port of 127.0.0.1, so any local server would
get it. Without the token only the empty page, its script and its style are served.

Plain ASGI: knows nothing of routes. Secrets are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCHEME = "Bearer "
PUBLIC = ("/", "/static/")  # the empty page; files that are part of thresher
MOST_BYTES = 100_000  # of a request's body
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
        b"'self'; base-uri 'none'; "
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
    """Secrets of one process.

    token: part of the printed address; the page's script sends it.
    signing: signs the addresses of images; never leaves the process.
    """

    token: str = field(default_factory=new_token)
    signing: str = field(default_factory=new_token)

    def sign(self, path: str) -> str:
        """The address of `path` that may be asked for without the token."""
        return f"{path}?signature={self._signature(path)}"

    def signed(self, path: str, query: bytes) -> bool:
        """Whether a query is the signature of a path and nothing else.

        Arguments:
            path: of the request, as it was signed.
            query: raw query string of the request.
        """
        expected = f"signature={self._signature(path)}"
        return secrets.compare_digest(query, expected.encode())

    def _signature(self, path: str) -> str:
        code = path.encode("utf-8", "surrogatepass")
        return hmac.new(self.signing.encode(), code, hashlib.sha256).hexdigest()


class Guard:
    """Lets only permitted requests through to an application.

    Arguments:
        app: the application, ASGI.
        port: of the server.
        keys: of the server.
    """

    def __init__(self, app: App, port: int, keys: Keys) -> None:
        self.app, self.keys = app, keys
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        refused = self._refusal(scope, _single(scope["headers"]))
        if refused is not None:
            status, why = refused
            await _answer(_with_headers(send), status, why)
            return
        await self.app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        """(status, why), or None for a request that may pass."""
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST are answered here."
        host = headers.get(b"host", "").lower()
        if host not in self.hosts:
            return 403, (
                "This address is not the viewer's. Open the address that thresher view printed."
            )
        reading = method != "POST"
        opening = reading and path == PUBLIC[0]  # may be a link in any other page: it shows nothing
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        own = f"http://{host}"
        if not opening and (origin not in (None, own) or site not in (None, "same-origin", "none")):
            return 403, "Another page asked. Only the viewer's own page may."
        public = opening or (reading and path.startswith(PUBLIC[1]))
        signed = reading and self.keys.signed(path, scope.get("query_string", b""))
        if not public and not signed and not self._has_token(headers):
            return 403, (
                "The token is missing or wrong. Open the address that thresher view printed."
            )
        if not reading:
            if origin != own:
                return 403, "Changes are taken from the viewer's own page only. Load it again."
            length = headers.get(b"content-length", "")
            if not (length.isdecimal() and int(length) <= MOST_BYTES):
                return 413, "The request is too large."
        return None

    def _has_token(self, headers: dict[bytes, str]) -> bool:
        return _equal(headers.get(b"authorization", ""), SCHEME + self.keys.token)


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            named = {name for name, _ in HEADERS}
            headers = [pair for pair in message.get("headers", []) if pair[0].lower() not in named]
            message = {**message, "headers": [*headers, *HEADERS]}
        await send(message)

    return sending


def _single(headers: list[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Headers by name; of one that comes twice, what no check accepts."""
    out: dict[bytes, str] = {}
    for name, value in headers:
        name = name.lower()
        out[name] = "\n" if name in out else value.decode("latin-1")
    return out


def _equal(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


async def _answer(send: Send, status: int, text: str) -> None:
    body = (text + "\n").encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
