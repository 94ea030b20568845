"""Several devices of one machine: a process for each, with one store.

The process that the user started runs its model on the first device, selects the rows and writes
the folder. For every other device it starts a worker, which scores the rows that are still missing
(`engine.sharing`) and then exits. A worker that fails is reported; its rows are scored by the
others. Starts and ends processes; touches no file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

from thresher.errors import ConfigError
from thresher.request import RunRequest
from thresher.request.devices import parse_devices

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.selection.opening import Job

END_SECONDS = 30.0  # for a worker to store what it has scored


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
    began = job.context.started
    started = [_Worker.start(request, device, began) for device in devices[1:]]
    try:
        yield replace(job, context=replace(job.context, processes=len(devices)))
    finally:
        for worker in started:
            worker.stop()
        for worker in started:
            if problem := worker.end():
                say(problem)


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


@dataclass
class _Worker:
    device: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    @classmethod
    def start(cls, request: RunRequest, device: str, began: int) -> _Worker:
        """Start the worker of a device.

        Arguments:
            request: of the run.
            device: that it scores on.
            began: when the command began, as `RunContext.started`.
        """
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        process = subprocess.Popen(
            [sys.executable, "-m", "thresher.selection.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        assert process.stdin is not None
        given = request.to_mapping() | {"device": device}
        for name in ("devices", "out"):
            given.pop(name, None)
        try:
            # its end tells the worker that this process is dead: it stays open until then
            line = json.dumps({"request": given, "started": began})
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # `end` reports how it ended
        return cls(device, process, errors)

    def stop(self) -> None:
        """Ask it to store what it has scored, and to end."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass

    def end(self) -> str:
        """Wait until it has ended; a note if it had failed before, else ""."""
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
            return (
                f"The worker on {self.device} did not end within {END_SECONDS:g} s and was killed; "
                "rows that it had not stored yet are scored again by the next run."
            )
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        self.errors.close()
        if code == 0:
            return ""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = f": {lines[-1]}" if lines else ""
        return (
            f"The worker on {self.device} failed ({how}){said.rstrip('.')}. Its rows were scored "
            "by the other processes."
        )


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
