"""Processes forked from one that has already imported thresher, so that a test that needs its own
process (to kill it, to run several at once) saves the import time.

Only for pool, store and selection code without torch. Tests of Python's start-up, PYTHON* variables
or the imports of a command need `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import thresher
from tests.text_pools import record, write_pool
from thresher.cli import main

COMMAND = "from thresher.cli import main\nmain()"
HEAVY = (  # not imported beforehand: they import torch, or trackers that may not be installed
    "thresher.backends.adapted.backend",
    "thresher.backends.hf",
    "thresher.backends.vllm",
    "thresher.demo",
    "thresher.tracking.to_",
    "thresher.training.checkpoints",
    "thresher.training.trainer",
)
PIPES = ((0, 1), (1, 0), (1, 0))  # of each standard stream: the child's end of os.pipe(), and ours


class WarmProcess:
    """A running child; the part of `subprocess.Popen` that tests use, with text pipes."""

    def __init__(self, server: WarmServer, pid: int, streams: list[IO[str]]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = streams
        self._server = server

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or -N after signal N. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._server.ask({"wait": self.pid, "timeout": timeout})
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a warm process", timeout or 0)
        return self.returncode

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """(stdout, stderr) until the process ends. Raises subprocess.TimeoutExpired."""
        self.stdin.close()
        values: dict[str, str] = {}

        def read(name: str) -> None:
            values[name] = getattr(self, name).read()

        readers = [threading.Thread(target=read, args=(n,)) for n in ("stdout", "stderr")]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
            raise
        finally:
            for reader in readers:
                reader.join()
        return values["stdout"], values["stderr"]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmServer:
    """The process that is forked: one a test session and xdist worker."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm_process", str(its.fileno())],
                pass_fds=[its.fileno()],
                cwd=Path(__file__).parents[1],
            )
        self._socket = ours

    def ask(self, request: Mapping[str, Any], fds: tuple[int, ...] = ()) -> Any:
        socket.send_fds(self._socket, [json.dumps(request).encode()], fds)
        answer = self._socket.recv(1 << 16)
        assert answer, "the process that is forked has died"
        return json.loads(answer)

    def start(
        self,
        code: str,
        *arguments: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> WarmProcess:
        """Run `python -c CODE ARGUMENTS`, in `cwd` and with the variables `env` (default: ours)."""
        pipes = [os.pipe() for _ in PIPES]
        theirs = tuple(pipe[their] for pipe, (their, _) in zip(pipes, PIPES, strict=True))
        request = {
            "code": code,
            "arguments": [str(a) for a in arguments],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        pid = self.ask(request, theirs)
        for fd in theirs:
            os.close(fd)
        streams = [
            os.fdopen(pipe[our], "w" if our else "r", encoding="utf-8")
            for pipe, (_, our) in zip(pipes, PIPES, strict=True)
        ]
        return WarmProcess(self, pid, streams)

    def run(
        self,
        *words: object,
        code: str = COMMAND,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`thresher WORDS` (or other `code` with them as its arguments), to its end."""
        process = self.start(code, *words, cwd=cwd, env=env)
        out, err = process.communicate()
        return subprocess.CompletedProcess(list(map(str, words)), process.wait(), out, err)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def serve(connection: socket.socket) -> None:
    """Fork and wait at the test process's request, until it closes its end."""
    import_all()
    while True:
        message, fds, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not message:
            return
        request = json.loads(message)
        if "wait" in request:
            answer = wait_for(request["wait"], request["timeout"])
        elif answer := os.fork():
            for fd in fds:
                os.close(fd)
        else:
            connection.close()
            # as in a terminal, also where the tests run in the background and ignore Ctrl-C
            signal.signal(signal.SIGINT, signal.default_int_handler)
            become(request, fds)
        connection.send(json.dumps(answer).encode())


def import_all() -> None:
    """All of thresher but what needs torch, the helpers that jobs in tests import, and whatever a
    selection and its report load when they are first used."""
    for module in pkgutil.walk_packages(thresher.__path__, "thresher."):
        if not module.name.startswith(HEAVY):
            importlib.import_module(module.name)
    importlib.import_module("tests.fake_training")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write_pool(Path(folder) / "pool.json", [record(i) for i in range(20)])
        words = ["select", "pool.json", "--method", "length", "--budget", "5", "--out", "out"]
        with contextlib.chdir(folder), contextlib.suppress(SystemExit):
            main([*words, "--store", "store"])
    assert "torch" not in sys.modules
    assert threading.active_count() == 1  # a fork takes no other thread along
    gc.collect()
    gc.freeze()  # the children's collections leave alone what they inherit


def wait_for(pid: int, timeout: float | None) -> int | None:
    """The exit code of a child; None: it runs on after `timeout` seconds."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, 0 if end is None else os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            return None
        time.sleep(0.005)


def become(request: Mapping[str, Any], fds: list[int]) -> NoReturn:
    """In the child: take the streams, folder, variables and arguments of the request, run its code,
    and end as Python would, without tearing down every module one by one."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["-c", *request["arguments"]]
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    code = 0
    try:
        exec(compile(request["code"], "<string>", "exec"), module.__dict__)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
