"""A worker of `--engine ray`: an actor that does its part of the work, like a worker process of
`--devices` (`worker`), and answers how far it is.

A `ScoringActor` scores the rows that are still missing: it opens each model once, claims rows only
when it is ready for them, and writes scores into the store itself: no row goes through Ray. Imports
Ray only where it runs.
"""

from __future__ import annotations

import json
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thresher._version import __version__
from thresher.errors import ConfigError, StoreError, ThresherError, opt
from thresher.selection.worker_state import Ended, Reports, WorkerState
from thresher.storage.opening import open_store

STORE_SECONDS = 10.0  # for a file to appear on a network file system


@dataclass(frozen=True)
class RayJob:
    """What a worker needs to know."""

    request: str  # JSON of the request, for the worker
    store: str  # address or absolute path
    folder: str  # working directory of the command; relative paths start there
    claim: str  # name of a claim in the store, which exists while the command runs
    processes: int  # number of workers
    started: int  # when the command began, as `RunContext.started`
    version: str = __version__


class Actor(ABC):
    """Ray calls `run` in one thread, and `state` and `stop` in others."""

    def __init__(self) -> None:
        self._progress = Reports(WorkerState(socket.gethostname(), _device()))

    @abstractmethod
    def work(self, job: RayJob, reports: Reports) -> None:
        """Do what others leave, until nothing is left.

        Arguments:
            job: what to do.
            reports: receives progress.
        """

    def run(self, job: RayJob) -> Ended:
        """Work until all is done."""
        error: ThresherError | None = None
        try:
            _check(job, self._progress.state.node)
            self.work(job, self._progress)
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


class ScoringActor(Actor):
    """Scores until every row is stored."""

    def work(self, job: RayJob, reports: Reports) -> None:
        from thresher.selection.worker import read_request, score

        request = read_request(json.loads(job.request))
        score(request, reports, reports.count, job.processes, job.started)


def make_job(
    request: Mapping[str, Any], store: str, claim: str, processes: int, started: int
) -> RayJob:
    """The job of the workers.

    Arguments:
        request: what a worker is asked for, as plain values.
        store: address or absolute path.
        claim: name of a claim in the store, which exists while the command runs.
        processes: number of workers.
        started: when the command began, as `RunContext.started`.
    """
    return RayJob(json.dumps(request), store, os.getcwd(), claim, processes, started)


def _check(job: RayJob, node: str) -> None:
    """Raise ConfigError or StoreError if this node cannot do the job as the command's node could;
    go to the working directory of the command."""
    if job.version != __version__:
        raise ConfigError(
            f"{node} has thresher {__version__}, and the command runs {job.version}. Install the "
            "same version on all nodes."
        )
    deadline = time.monotonic() + STORE_SECONDS
    store = open_store(job.store)
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
