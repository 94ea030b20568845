"""What a worker process tells the process that started it: how far it is, and how it ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

from thresher.errors import ThresherError


@dataclass(frozen=True)
class WorkerState:
    """How far a worker is."""

    node: str
    device: str  # "GPU 3" or "CPU"
    done: int = 0  # by this worker: rows that it stored, or cells that it finished
    label: str = ""  # what it is scoring or training; "": between two such tasks
    task: str = ""  # the cell that it computes

    @property
    def doing(self) -> str:
        """The task and what it is at, for a line about the worker."""
        return ", ".join(filter(None, (self.task, self.label)))


@dataclass(frozen=True)
class Ended:
    """How a worker ended: `error` is None if all is done, or if it was asked to stop."""

    state: WorkerState
    error: ThresherError | None


@dataclass
class Reports:
    """A `Progress` that remembers the last numbers, and interrupts the work once it is stopped."""

    state: WorkerState
    stopped: threading.Event = field(default_factory=threading.Event)

    def change(self, **values: Any) -> None:
        """Change fields of the state."""
        self.state = replace(self.state, **values)

    def start(self, label: str, total: int, done: int) -> None:
        self.change(label=label)

    def advance(self, n: int) -> None:
        if self.stopped.is_set():
            raise KeyboardInterrupt

    def finish(self) -> None:
        self.change(label="")

    def say(self, text: str) -> None:
        return

    def measure(self, name: str, value: float) -> None:
        return

    def begin(self, task: str) -> None:
        """`task`: the cell that is computed from now on."""
        self.change(task=task)

    def count(self, done: int) -> None:
        """`done`: rows that were stored, or cells that were finished, since the last call."""
        self.change(done=self.state.done + done)
