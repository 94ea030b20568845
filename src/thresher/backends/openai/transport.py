"""One HTTP request and its response, with limits on the time and size of the whole response.

The timeouts of httpx apply to each read; a server that sends a byte now and then would never time
out. So requests run in an event loop in its own thread, where the whole exchange can be cancelled.

Follows redirects to the same host only, with method and body unchanged, so that the key is sent
nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from thresher.backends.openai.address import Address
from thresher.backends.openai.failures import TimedOut, Transient
from thresher.backends.openai.server_text import one_line
from thresher.errors import ServerError, opt

CONNECT_SECONDS = 10.0
MAX_BYTES = 64 * 2**20
MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 307, 308)


@dataclass(frozen=True)
class Reply:
    """A complete response."""

    code: int
    headers: httpx.Headers
    body: bytes


class Transport:
    """Connections to one server. Safe to use from several threads.

    Arguments:
        address: of the server.
        key: API key; None: requests have none.
        timeout: seconds for one complete response.
        connections: maximum number of connections.
    """

    def __init__(self, address: Address, key: str | None, timeout: float, connections: int) -> None:
        self.address, self.timeout = address, timeout
        # a proxy and certificates from the environment are for remote hosts
        trust_env = not address.is_local
        self._http = httpx.AsyncClient(
            verify=_certificates(trust_env),
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(None, connect=min(CONNECT_SECONDS, timeout)),
            limits=httpx.Limits(max_connections=connections),
            trust_env=trust_env,
        )
        self._redirects: dict[str, str] = {}  # URL -> where the server redirected it
        self._answered = False
        self.close = weakref.finalize(self, _close, self._http)
        self.close.atexit = False

    def send(
        self, method: str, path: str, content: bytes | None, *, at_root: bool = False
    ) -> Reply:
        """Send one request.

        Arguments:
            method: GET or POST.
            path: appended to the server's URL.
            content: JSON body, or None.
            at_root: append the path to the URL without its /v1.

        Raises Transient, and ServerError for a fault that a retry cannot fix.
        """
        url = (self.address.root if at_root else self.address.base) + path
        asked = asyncio.run_coroutine_threadsafe(self._send(method, url, content), _loop())
        try:
            reply = asked.result()
        except BaseException:
            asked.cancel()
            raise
        self._answered = True
        return reply

    # --------------------------------------------------------------------------------- one exchange

    async def _send(self, method: str, url: str, content: bytes | None) -> Reply:
        target = self._redirects.get(url, url)
        try:
            async with asyncio.timeout(self.timeout):
                for _ in range(MAX_REDIRECTS):
                    reply = await self._exchange(method, target, content)
                    if not 300 <= reply.code < 400:
                        break
                    target = self._next(target, reply)
                else:
                    raise ServerError(
                        f"The server {self.address.base} redirects without end, last to {target}."
                    )
        except TimeoutError:
            raise TimedOut(
                f"no complete answer within {self.timeout:g} s", overloaded=True
            ) from None
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Transient(
                "no connection within the timeout", reached=False, overloaded=True
            ) from None
        except httpx.ConnectError as error:
            self._refuse_tls_faults(error)
            self._refuse_unknown_host(error)
            raise Transient(
                "the server cannot be reached", reached=False, overloaded=True
            ) from None
        except httpx.HTTPError as error:  # a lost connection, a protocol error
            await self._refuse_other_protocols(error)
            raise Transient(
                f"the connection broke ({type(error).__name__})", overloaded=True
            ) from None
        if target != url:
            self._redirects[url] = target
        return reply

    async def _exchange(self, method: str, url: str, content: bytes | None) -> Reply:
        kind = {"Content-Type": "application/json"}
        async with self._http.stream(method, url, content=content, headers=kind) as response:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise Transient(f"the answer is larger than {MAX_BYTES >> 20} MiB")
            return Reply(response.status_code, response.headers, bytes(body))

    def _next(self, url: str, reply: Reply) -> str:
        """The target of a redirect, if it is on the same host. Raises ServerError."""
        where = one_line(reply.headers.get("Location", ""))
        here = httpx.URL(url)
        try:
            there = here.join(where)
        except (httpx.InvalidURL, ValueError):
            there = None
        if not where or there is None or reply.code not in _REDIRECTS:
            names = f"and names {where}" if where else "and names no other address"
            raise ServerError(
                f"The server {self.address.base} answers HTTP {reply.code} {names}. "
                "Give the URL up to /v1."
            )
        if not _same_server(here, there):
            shown = str(there.copy_with(userinfo=b"", query=None, fragment=None)).removesuffix(
                "/chat/completions"
            )
            url = shown.removesuffix("/chat/completions/").removesuffix("/models")
            url = url.rstrip("/").removesuffix("/embeddings")
            raise ServerError(
                f"The server {self.address.base} redirects to {shown} (HTTP {reply.code}). That is "
                "another server, and the key is not sent there automatically. If it is the right "
                f"one, give its URL: {opt('url', url)}"
            )
        return str(there)

    # ----------------------------------------------------------------------------- permanent faults

    def _refuse_tls_faults(self, error: Exception) -> None:
        fault = next((e for e in _causes(error) if isinstance(e, ssl.SSLError)), None)
        if fault is None or (
            self._answered and not isinstance(fault, ssl.SSLCertVerificationError)
        ):
            return
        if isinstance(fault, ssl.SSLCertVerificationError):
            what = f"its certificate cannot be trusted: {fault.verify_message}"
            do = "Name the authority that signed it: SSL_CERT_FILE=FILE.pem"
        elif fault.reason in (
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "UNEXPECTED_EOF_WHILE_READING",
            None,
        ):
            what = f"it does not speak TLS there ({_reason(fault)})"
            do = "Should it be http:// instead of https://?"
        else:
            what, do = _reason(fault), "Look at the server's TLS settings"
        raise ServerError(
            f"The server {self.address.base} cannot be reached over https: {what}. {do}"
        ) from None

    def _refuse_unknown_host(self, error: Exception) -> None:
        fault = next((e for e in _causes(error) if isinstance(e, socket.gaierror)), None)
        if fault is not None and fault.errno == socket.EAI_NONAME and not self._answered:
            raise ServerError(
                f"The server {self.address.base} cannot be found: no host has this name "
                f"({fault.strerror}). Is the URL right?"
            ) from None

    async def _refuse_other_protocols(self, error: Exception) -> None:
        """Raises ServerError if the port has never answered and does not speak HTTP."""
        if self._answered:
            return
        if self.address.base.startswith("http://") and await self._speaks_tls():
            raise ServerError(
                f"The server {self.address.base} speaks TLS at this port. Give https:// instead of "
                "http://."
            ) from None
        if isinstance(error, httpx.RemoteProtocolError) and "illegal" in str(error).lower():
            raise ServerError(
                f"What listens at {self.address.base} does not speak HTTP "
                f"({one_line(str(error), 100)}). Is the port right?"
            ) from None

    async def _speaks_tls(self) -> bool:
        here = httpx.URL(self.address.base)
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError, TimeoutError):  # ssl.SSLError is an OSError
            async with asyncio.timeout(3.0):
                _, writer = await asyncio.open_connection(
                    here.host, here.port or 80, ssl=unverified
                )
                writer.close()
                return True
        return False


def _same_server(here: httpx.URL, there: httpx.URL) -> bool:
    """The same scheme, host and port, or https instead of http on the default ports."""
    if (there.scheme, there.host, there.port) == (here.scheme, here.host, here.port):
        return True
    upgraded = (here.scheme, there.scheme) == ("http", "https")
    return upgraded and there.host == here.host and here.port is None and there.port is None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(fault: ssl.SSLError) -> str:
    return (fault.reason or str(fault)).replace("_", " ").lower()


# ----------------------------------------------------------------------------------- the event loop

_lock = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None


def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all transports of this process, in a daemon thread."""
    global _running
    with _lock:
        if _running is None:
            _running = asyncio.new_event_loop()
            threading.Thread(target=_running.run_forever, daemon=True, name="thresher-http").start()
        return _running


def _certificates(trust_env: bool) -> ssl.SSLContext:
    """What httpx accepts by default. Shared by all transports: reading the certificates takes
    longer than most requests."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR") if trust_env else ()
    return _read_certificates(trust_env, tuple(os.environ.get(name) for name in names))


@functools.cache
def _read_certificates(trust_env: bool, _variables: tuple[str | None, ...]) -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=trust_env)


def _close(http: httpx.AsyncClient) -> None:
    asyncio.run_coroutine_threadsafe(http.aclose(), _loop())
