"""Several devices of one machine: a process for each, with one store.

The process that the user started runs its model on the first device, selects the rows and writes
the folder. For every other device it starts a worker, which scores the rows that are still missing
(`engine.sharing`) and then exits. A worker that fails is reported; its rows are scored by the
others. Starts and ends processes; touches no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from thresher.errors import ConfigError
from thresher.request import RunRequest
from thresher.request.devices import parse_devices
from thresher.selection.worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.selection.opening import Job


@contextmanager
def device_workers(job: Job, say: Callable[[str], None]) -> Iterator[Job]:
    """The job, with a worker for each further device while the block runs.

    There are none without `--devices`, and for a method that asks no model.

    Arguments:
        job: the job.
        say: receives what went wrong with a worker.

    Raises ConfigError if a device does not exist.
    """
    request = job.task.request
    devices = devices_of(request) if job.context.model is not None else ()
    if len(devices) < 2:
        yield job
        return
    began, model = job.context.started, job.context.model
    dtype = None if model is None else model.identity.dtype
    started = [start_scoring(request, device, began, dtype) for device in devices[1:]]
    try:
        yield replace(job, context=replace(job.context, processes=len(devices)))
    finally:
        for worker in started:
            worker.stop()
        for worker in started:
            if problem := worker.end():
                say(problem)


def start_scoring(
    request: RunRequest, device: str, began: int, dtype: str | None = None
) -> WorkerProcess:
    """A worker that scores the rows that others leave.

    Arguments:
        request: of the user.
        device: of the worker.
        began: when the command began, as `RunContext.started`.
        dtype: of the model on the first device; None or "": as the request says. `auto` may mean
            another precision on another device, and so scores in other columns.
    """
    given = request.to_mapping() | {"device": device}
    for name in ("devices", "out"):
        given.pop(name, None)
    if dtype:
        given["dtype"] = dtype
    return WorkerProcess.start(
        "thresher.selection.worker",
        {"request": given, "started": began},
        f"The worker on {device}",
        if_failed="Its rows were scored by the other processes",
        if_killed="rows that it had not stored yet are scored again by the next run",
    )


def scoring_devices(request: RunRequest) -> int:
    """How many devices score at the same time: GPUs of `--devices`, or workers of a Ray cluster if
    their number is given. CPUs of one machine count as one, because they share its cores.

    Arguments:
        request: of the run.

    Raises ConfigError if a device does not exist.
    """
    if request.engine == "ray":
        return request.ray_workers or 1
    devices = devices_of(request)
    return max(len(devices) - max(devices.count("cpu") - 1, 0), 1)


def devices_of(request: RunRequest) -> tuple[str, ...]:
    """The devices of `--devices`, "all" resolved; () without it. Raises ConfigError for one that
    does not exist."""
    if request.devices is None:
        return ()
    devices = parse_devices(request.devices)
    if devices != ("all",) and not any(d.startswith("cuda") for d in devices):
        return devices
    import torch

    count = torch.cuda.device_count()
    if devices == ("all",):
        if not count:
            raise ConfigError(
                ": this machine has no GPU that torch can use. Leave it out.",
                option="devices",
                value=request.devices,
            )
        return tuple(f"cuda:{i}" for i in range(count))
    for device in devices:
        number = int(device.partition(":")[2] or 0)
        if device.startswith("cuda") and number >= count:
            found = f"cuda:0 to cuda:{count - 1}" if count else "no GPU that torch can use"
            raise ConfigError(
                f": there is no {device}; this machine has {found}.",
                option="devices",
                value=request.devices,
            )
    return devices
