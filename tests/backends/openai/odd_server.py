"""Servers on loopback with scripted answers, byte for byte, to simulate faulty servers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any, dict[str, str]]
"""HTTP status, body (bytes, or what becomes JSON), further headers."""


@dataclass
class OddServer:
    """`url`: its base URL. `asked`: the decoded bodies of all requests, in order; `keys`: the
    header Authorization of each."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


def completion(text: str | None = "4", why: str = "stop", **message: Any) -> dict[str, Any]:
    """A good answer to any question about a number from 0 to 5."""
    entries = [{"token": t, "logprob": v} for t, v in (("4", -0.3), ("3", -1.6), ("5", -3.0))]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "logprobs": {"content": [{**entries[0], "top_logprobs": entries}]},
        "finish_reason": why,
    }
    return {
        "object": "chat.completion",
        "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1},
    }


def said(body: dict[str, Any]) -> str:
    """The text of the last message of a request."""
    content = body["messages"][-1]["content"]
    return (
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    )


def ok() -> Answer:
    return 200, completion(), {}


@contextlib.contextmanager
def answering(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[OddServer]:
    """`answer(body)` for every request; a GET has the body {}."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any]) -> None:
            server.asked.append(body)
            server.paths.append(self.path)
            server.keys.append(self.headers.get("Authorization"))
            code, found, headers = answer(body)
            raw = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(code)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = OddServer(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(
        target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


@contextlib.contextmanager
def sending(
    pieces: list[bytes], pause: float, wrap: Callable[[socket.socket], socket.socket] | None = None
) -> Iterator[int]:
    """The port of a server that reads something and sends `pieces`, one every `pause` seconds, to
    each connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            talk = connection if wrap is None else wrap(connection)
            talk.recv(65536)
            for piece in pieces:
                talk.sendall(piece)
                if ended.wait(pause):
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        ended.set()
        listening.close()
