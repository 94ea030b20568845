"""A worker of `--engine ray`: an actor that scores the rows that are still missing, like a worker
process of `--devices` (`worker`), and answers how far it is.

It opens each model once, claims rows only when it is ready for them, and writes scores into the
store itself: no row goes through Ray. Imports Ray only where it runs.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from thresher._version import __version__
from thresher.errors import ConfigError, StoreError, ThresherError, opt
from thresher.storage.opening import open_store

STORE_SECONDS = 10.0  # for a file to appear on a network file system


@dataclass(frozen=True)
class RayJob:
    """What a worker needs to know."""

    request: str  # JSON of the request, for the worker
    folder: str  # working directory of the command; relative paths start there
    claim: str  # name of a claim in the store, which exists while the command runs
    processes: int  # number of workers
    started: int  # when the command began, as `RunContext.started`
    version: str = __version__


@dataclass(frozen=True)
class WorkerState:
    """How far a worker is."""

    node: str
    device: str  # "GPU 3" or "CPU"
    rows: int = 0  # stored by this worker
    label: str = ""  # what it is scoring or training; "": between two such tasks


@dataclass(frozen=True)
class Ended:
    """How a worker ended: `error` is None if all rows are stored, or if it was asked to stop."""

    state: WorkerState
    error: ThresherError | None


class ScoringActor:
    """Ray calls `run` in one thread, and `state` and `stop` in others."""

    def __init__(self) -> None:
        self._progress = _Reports(WorkerState(socket.gethostname(), _device()))

    def run(self, job: RayJob) -> Ended:
        """Score until every row is stored."""
        from thresher.selection.worker import read_request, score

        error: ThresherError | None = None
        try:
            _check(job, self._progress.state.node)
            request = read_request(json.loads(job.request))
            score(request, self._progress, self._progress.stored, job.processes, job.started)
        except KeyboardInterrupt:  # `stop`
            pass
        except ThresherError as e:
            error = e
        return Ended(self._progress.state, error)

    def state(self) -> WorkerState:
        """How far it is."""
        return self._progress.state

    def stop(self) -> None:
        """Store what is scored, and end."""
        self._progress.stopped.set()


@dataclass
class _Reports:
    """A `Progress` that remembers the last numbers, and interrupts the work once it is stopped."""

    state: WorkerState
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, label: str, total: int, done: int) -> None:
        self.state = replace(self.state, label=label)

    def advance(self, n: int) -> None:
        if self.stopped.is_set():
            raise KeyboardInterrupt

    def finish(self) -> None:
        self.state = replace(self.state, label="")

    def say(self, text: str) -> None:
        return

    def measure(self, name: str, value: float) -> None:
        return

    def stored(self, rows: int) -> None:
        self.state = replace(self.state, rows=self.state.rows + rows)


def make_job(request: dict[str, Any], claim: str, processes: int, started: int) -> RayJob:
    """The job of the workers.

    Arguments:
        request: fields of the worker's request; the store's path is absolute.
        claim: name of a claim in the store, which exists while the command runs.
        processes: number of workers.
        started: when the command began, as `RunContext.started`.
    """
    return RayJob(json.dumps(request), os.getcwd(), claim, processes, started)


def _check(job: RayJob, node: str) -> None:
    """Raise ConfigError or StoreError if this node cannot do the job as the command's node could;
    go to the working directory of the command."""
    if job.version != __version__:
        raise ConfigError(
            f"{node} has thresher {__version__}, and the command runs {job.version}. Install the "
            "same version on all nodes."
        )
    deadline = time.monotonic() + STORE_SECONDS
    store = open_store(json.loads(job.request)["store"])
    while not store.has_claim(job.claim):
        if time.monotonic() > deadline:
            raise StoreError(
                f": {store.address} on {node} is not the store of that name where the command "
                f"runs. Workers write into the store themselves: give {opt('store')} a folder on a "
                "file system that all nodes share, or an address such as s3://BUCKET/PREFIX with "
                "the same server and credentials on all nodes.",
                option="store",
                value=store.address,
            )
        time.sleep(0.5)
    try:
        os.chdir(job.folder)
    except OSError as e:
        raise ConfigError(
            f"{node} has no folder {job.folder}, where the command runs. Run it in a folder that "
            "all nodes share: the pool must be on all of them."
        ) from e


def _device() -> str:
    import ray

    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU") or []
    return f"GPU {gpus[0]}" if gpus else "CPU"
