"""A worker process for one device of `--devices`, as the process that started it sees it, and the
frame of what runs in it.

The first line of its stdin is what it is asked for as JSON; the end of stdin means that it is asked
to stop, or that the process that started it has died. Starts and ends processes; touches no file.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from thresher.errors import ThresherError
from thresher.request.spelling import as_flag

END_SECONDS = 30.0  # for a worker to store what it has scored
STOPPED_AFTER = 60.0  # seconds to store what is scored, once the starting process is dead
AGAIN = 3.0  # seconds between two interrupts


@dataclass
class WorkerProcess:
    """A running worker."""

    name: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    if_failed: str
    if_killed: str

    @classmethod
    def start(
        cls,
        module: str,
        given: Mapping[str, Any],
        name: str,
        *,
        if_failed: str,
        if_killed: str,
        stdout: int = subprocess.DEVNULL,
    ) -> WorkerProcess:
        """Start `python -m MODULE`, which calls `run_worker`.

        Arguments:
            module: to run.
            given: what the worker is asked for, as plain values.
            name: at the beginning of messages, such as "The worker on cuda:1".
            if_failed: what became of its work if it failed, as a sentence.
            if_killed: what becomes of it if it does not end when it is asked to, as a clause.
            stdout: of the process, as `subprocess.Popen` takes it.
        """
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=stdout, stderr=errors
        )
        assert process.stdin is not None
        try:
            # its end tells the worker that this process is dead: it stays open until then
            process.stdin.write(json.dumps(given).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # `end` reports how it ended
        return cls(name, process, errors, if_failed, if_killed)

    def stop(self) -> None:
        """Ask it to store what it has scored, and to end."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass

    def end(self, alone: bool = False) -> str:
        """Wait until it has ended; a note if it had failed, else "".

        `alone`: whether there is no other process that takes over its work.
        """
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
            return (
                f"{self.name} did not end within {END_SECONDS:g} s and was killed; "
                f"{self.if_killed}."
            )
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        self.errors.close()
        if code == 0:
            return ""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = f": {lines[-1]}" if lines else ""
        note = f"{self.name} failed ({how}){said.rstrip('.')}."
        return note if alone else f"{note} {self.if_failed}."


def run_worker(work: Callable[[Mapping[str, Any]], None]) -> NoReturn:
    """Run a worker in this process, to its end.

    `work`: is called with what it is asked for.
    """
    # also where the command runs in the background, where SIGINT is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        given = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        work(given)
    except KeyboardInterrupt:
        pass
    except ThresherError as error:
        sys.stderr.write(f"{error.spelled(as_flag)}\n")
        code = 1
    except Exception:  # noqa: BLE001 - a bug: its traceback, and the end as for any other failure
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the thread that waits for stdin must not delay the end


def _end_with_stdin() -> None:
    """Interrupt the main thread as Ctrl-C does, so that it stores what it has scored."""
    sys.stdin.read()
    for _ in range(int(STOPPED_AFTER / AGAIN)):  # an import may swallow the first one
        _thread.interrupt_main()
        time.sleep(AGAIN)
    os._exit(1)
