"""Workers of a comparison on several devices of this machine: a process for each, watched from
here. One that fails is reported; its cell is computed by another one. Starts and ends processes.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thresher.compare.worker import MODULE, error_of
from thresher.console.formatting import pluralize
from thresher.errors import ModelError, ThresherError
from thresher.selection.ray_workers import OF_THE_RUN, REPORT_SECONDS
from thresher.selection.worker_process import WorkerProcess
from thresher.selection.worker_state import WorkerState

POLL_SECONDS = 0.2
LAST_SECONDS = 10.0  # for a worker to clean up when all cells are finished


@dataclass(eq=False)
class _Worker:
    name: str
    process: WorkerProcess
    reader: threading.Thread
    messages: queue.SimpleQueue[Mapping[str, Any]]
    running: bool = True
    finished: bool = False  # it has seen that all cells are finished
    problem: str = ""  # how it failed
    error: ThresherError | None = None  # why
    state: WorkerState = field(default_factory=lambda: WorkerState("", ""))

    @property
    def line(self) -> str:
        doing = f" ({self.state.doing})" if self.state.doing else ""
        how = doing if self.running else " (failed)" if self.problem else ""
        return f"{self.name}: {pluralize(self.state.done, 'cell')}{how}"


class DeviceWorkers:
    """Worker processes, one for each device (`engine.workers.Workers`). They start with the first
    call of `watch`.

    Arguments:
        given: what the worker of a device is asked for.
        devices: one for each worker.
        say: receives what went wrong with one of them.
        report: receives a line on what every worker does, now and then.
        began: called with the cell that a worker has begun, and the worker's name.
    """

    def __init__(
        self,
        given: Callable[[str], Mapping[str, Any]],
        devices: Sequence[str],
        say: Callable[[str], None],
        report: Callable[[str], None],
        began: Callable[[str, str], None],
    ) -> None:
        self._given, self._devices = given, devices
        self._say, self._report, self._began = say, report, began
        self._workers: list[_Worker] = []
        self._reported = time.monotonic()
        self._last: _Worker | None = None  # that failed

    def watch(self) -> bool:
        """As `Workers.watch`."""
        if not self._workers:
            self._reported = time.monotonic()
            for number, device in enumerate(self._devices, 1):
                self._workers.append(_start(self._given(device), f"worker {number} on {device}"))
        time.sleep(POLL_SECONDS)
        for worker in self._workers:
            if worker.running and worker.process.process.poll() is not None:
                self._end(worker)
                if isinstance(worker.error, OF_THE_RUN):
                    raise worker.error
            self._read(worker)
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            self._report(f"Workers: {self._lines()}.")
        if any(worker.running for worker in self._workers):
            return True
        if any(worker.finished for worker in self._workers):
            return False
        reason = self._last.problem if self._last is not None else "All were stopped."
        error = None if self._last is None else self._last.error
        raise error or ModelError(f"No worker is left. {reason}")

    def close(self, saved: bool) -> None:
        """End the workers. `saved`: whether all cells are finished."""
        running = [worker for worker in self._workers if worker.running]
        if saved:
            deadline = time.monotonic() + LAST_SECONDS
            while (
                any(worker.process.process.poll() is None for worker in running)
                and time.monotonic() < deadline
            ):
                time.sleep(0.05)
        for worker in running:
            worker.process.stop()
        for worker in running:
            self._end(worker)
        if saved and self._workers:
            self._report(f"Computed by {self._lines()}.")

    def _end(self, worker: _Worker) -> None:
        worker.running = False
        worker.process.stop()
        others = any(other.running or other.finished for other in self._workers)
        worker.problem = worker.process.end(alone=not others)
        worker.reader.join()
        self._read(worker)
        if worker.problem:
            self._last = worker
            if others and not isinstance(worker.error, OF_THE_RUN):
                self._say(worker.problem)

    def _read(self, worker: _Worker) -> None:
        while not worker.messages.empty():
            message = worker.messages.get()
            if "state" in message:
                before, worker.state = worker.state, WorkerState(**message["state"])
                if worker.state.task not in ("", before.task):
                    self._began(worker.state.task, worker.name)
            elif "error" in message:
                worker.error = error_of(message["error"])
            else:
                worker.finished = True

    def _lines(self) -> str:
        return "; ".join(worker.line for worker in self._workers)


def _start(given: Mapping[str, Any], name: str) -> _Worker:
    process = WorkerProcess.start(
        MODULE,
        given,
        name.capitalize(),
        if_failed="Its cell is computed by another one",
        if_killed="the cell that it had begun is continued by the next run",
        stdout=subprocess.PIPE,
    )
    messages: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    assert process.process.stdout is not None
    lines = process.process.stdout

    def read() -> None:
        for line in lines:
            messages.put(json.loads(line))
        lines.close()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return _Worker(name, process, reader, messages)
