"""The processes that compute the cells of a comparison, by its options: this one alone, one for
each of `--devices`, or workers on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thresher.compare.cell_files import is_finished
from thresher.compare.device_workers import DeviceWorkers
from thresher.compare.opening import Opened
from thresher.compare.request import CompareRequest
from thresher.compare.worker import CellActor, assignment
from thresher.engine import RunContext
from thresher.request import RunRequest
from thresher.selection.devices import devices_of, scoring_devices
from thresher.selection.ray_cluster import place
from thresher.selection.ray_engine import request_of_worker, started
from thresher.selection.ray_workers import Work
from thresher.storage.claims import Claims
from thresher.storage.writable import check_folder

if TYPE_CHECKING:
    from thresher.engine.workers import Workers
    from thresher.selection.ray_cluster import Placement

CELLS = Work(
    CellActor,
    "cell",
    "having finished a cell",
    "another worker continues its cell",
    "Its cell is computed by another one",
    "Computed by",
)


def has_workers(options: RunRequest) -> bool:
    """Whether other processes compute the cells of a comparison. Raises ConfigError if a device
    does not exist."""
    return options.engine == "ray" or len(devices_of(options)) > 1


def planned_devices(options: RunRequest) -> int:
    """How many devices compute cells at the same time; CPUs of one machine count as one, because
    they share its cores. Raises ConfigError if a device does not exist."""
    return place(options).workers if options.engine == "ray" else scoring_devices(options)


@contextmanager
def cell_workers(
    request: CompareRequest,
    opened: Opened,
    say: Callable[[str], None],
    began: Callable[[str], None],
) -> Iterator[RunContext]:
    """The context of the comparison, with the workers that its options ask for; they end with the
    block. They start when there is something to do.

    Arguments:
        request: of the user.
        opened: the comparison; its context has a progress.
        say: receives what went wrong with a worker.
        began: receives a message when a worker begins a cell.

    Raises ConfigError, and in the block what made the last worker fail.
    """
    options, context = request.options, opened.context
    if not has_workers(options):
        yield context
        return
    assert options.out is not None and context.progress is not None
    out, cells = check_folder(options.out), opened.job.cells()
    claims = Claims(out / "cells", ())
    total = sum(not is_finished(out, cell) for cell in cells)

    def given(changed: dict[str, Any]) -> dict[str, Any]:
        return {**assignment(request, changed, cells, claims.name), "total": total}

    def begun(task: str, worker: str) -> None:
        began(f"{task} ({worker})")

    with ExitStack() as stack:
        if options.engine == "ray":

            def for_ray(placement: Placement, store: str) -> dict[str, Any]:
                return given(request_of_worker(options, placement, store))

            workers: Workers = stack.enter_context(
                started(options, context, CELLS, for_ray, say, begun)
            )
        else:
            workers = stack.enter_context(_on_devices(opened, given, say, begun))
        yield replace(context, workers=_Announced(workers, claims, stack))


@contextmanager
def _on_devices(
    opened: Opened,
    given: Callable[[dict[str, Any]], dict[str, Any]],
    say: Callable[[str], None],
    began: Callable[[str, str], None],
) -> Iterator[DeviceWorkers]:
    options, progress = opened.job.request, opened.context.progress
    assert progress is not None
    # the same precision on every device: it is part of a cell's identity
    common = {**options.to_mapping(), "dtype": opened.job.model.identity.dtype}
    for name in ("devices", "track", "out"):
        common.pop(name, None)
    workers = DeviceWorkers(
        lambda device: given({**common, "device": device}),
        devices_of(options),
        say,
        progress.say,
        began,
    )
    saved = False
    try:
        yield workers
        saved = True
    finally:
        workers.close(saved)


class _Announced:
    """Workers that find a claim of this process in the comparison's folder, so that they can tell
    whether they see the same one. Nothing is written before they start."""

    def __init__(self, workers: Workers, claims: Claims, stack: ExitStack) -> None:
        self._workers, self._claims, self._stack = workers, claims, stack
        self._announced = False

    def watch(self) -> bool:
        if not self._announced:
            self._stack.enter_context(self._claims)
            self._announced = True
        return self._workers.watch()
