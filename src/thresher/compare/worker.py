"""A worker of a comparison: computes the cells that others leave, in a process of `--devices`
(`main`) or in a Ray actor (`CellActor`).

It opens pools and models itself, from the request of the command, and checks that its cells are
those of the command. Writes into the comparison's folder and the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from thresher import errors
from thresher.compare.cell_runner import CellRunner
from thresher.compare.cells import Cell
from thresher.compare.opening import open_comparison
from thresher.compare.request import CompareRequest
from thresher.errors import ConfigError, ThresherError, opt
from thresher.selection.ray_actor import STORE_SECONDS, Actor, RayJob
from thresher.selection.worker_process import run_worker
from thresher.selection.worker_state import Reports, WorkerState
from thresher.storage.claims import claim_file

MODULE = "thresher.compare.worker"


def assignment(
    request: CompareRequest, options: Mapping[str, Any], cells: Sequence[Cell], claim: str
) -> dict[str, Any]:
    """What a worker is asked for, as plain values.

    Arguments:
        request: of the command.
        options: those of the worker in place of the command's, as plain values.
        cells: of the comparison.
        claim: name of a claim in `out/cells`, which exists while the command runs.
    """
    return {
        "request": {**request.to_mapping(), "options": dict(options)},
        "out": request.options.out,
        "cells": _digest(cells),
        "claim": claim,
    }


def compute(given: Mapping[str, Any], reports: Reports) -> None:
    """Compute the cells that other processes leave, until all are finished.

    Arguments:
        given: as `assignment` made it, and `total`, the number of missing cells.
        reports: receives progress.

    Raises ConfigError where this node sees other files than the command, and what selecting,
    training and evaluating raise.
    """
    node, out = socket.gethostname(), Path(given["out"])
    _check_folder(out, given["claim"], node)
    request = CompareRequest.from_mapping(given["request"])
    opened = open_comparison(request, lambda text: None)
    if _digest(opened.job.cells()) != given["cells"]:
        raise ConfigError(
            f"{node} sees another pool, evaluation set or model than the command, or has another "
            "version of a package that reads them. All nodes must see the same files."
        )
    context = replace(opened.context, progress=reports)
    runner = CellRunner(opened.job, context, out, opened.evaluate, request.keep_models)
    runner.run_missing(reports.begin, lambda: reports.count(1), given["total"])
    reports.begin("")


def _digest(cells: Sequence[Cell]) -> str:
    return hashlib.sha256("\n".join(cell.fingerprint for cell in cells).encode()).hexdigest()


def _check_folder(out: Path, claim: str, node: str) -> None:
    """Raise ConfigError if `out` is not the folder in which the command holds its claim."""
    deadline = time.monotonic() + STORE_SECONDS
    while not claim_file(out / "cells", claim).exists():
        if time.monotonic() > deadline:
            raise ConfigError(
                f": {out.absolute()} on {node} is not the folder of that name where the command "
                "runs. Workers write their cells themselves: give a folder on a file system that "
                f"all nodes share. (Only the store may be on S3, with {opt('store')}.)",
                option="out",
                value=out,
            )
        time.sleep(0.5)


class CellActor(Actor):
    """Computes cells until all are finished."""

    def work(self, job: RayJob, reports: Reports) -> None:
        compute(json.loads(job.request), reports)


class SentReports(Reports):
    """Reports that are written to the process that started this one, a line of JSON each.

    Arguments:
        state: at first.
        descriptor: of the file that they are written to.
    """

    def __init__(self, state: WorkerState, descriptor: int) -> None:
        super().__init__(state)
        self._descriptor = descriptor

    def change(self, **values: Any) -> None:
        super().change(**values)
        self.send({"state": asdict(self.state)})

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message, at once."""
        os.write(self._descriptor, json.dumps(message).encode() + b"\n")


def error_of(message: Mapping[str, str]) -> ThresherError:
    """The error of a worker process, from its message."""
    kind = getattr(errors, message["kind"], ThresherError)
    made: ThresherError = kind(message["message"])
    return made


def main() -> None:
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not get into the messages
    reports = SentReports(WorkerState(socket.gethostname(), ""), channel)

    def work(given: Mapping[str, Any]) -> None:
        try:
            compute(given, reports)
        except ThresherError as e:
            reports.send({"error": {"kind": type(e).__name__, "message": e.message}})
            raise
        reports.send({"finished": True})

    run_worker(work)


if __name__ == "__main__":
    main()
