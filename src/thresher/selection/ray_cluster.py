"""The Ray cluster of `--engine ray`: the connection to it, and what its workers run on.

The connection stays open until this process ends: Ray allows one per process.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError, opt
from thresher.extras import require
from thresher.request.ray_address import parse_address

if TYPE_CHECKING:
    from thresher.request import Dtype, RunRequest

CONNECT_SECONDS = 10.0
WORKER_CPUS = 0.5  # of a worker without a GPU: half of the CPUs stay free for other tasks
_QUIET = {
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anyone unless the user says so
    "RAY_BACKEND_LOG_LEVEL": "error",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the later default, without its warning
}


@dataclass(frozen=True)
class Placement:
    """What a worker runs on."""

    gpu: bool  # one GPU each; else a share of a CPU
    workers: int  # number of workers to start
    dtype: Dtype  # of the model's weights, never "auto"

    @property
    def device(self) -> str:
        """The torch device in a worker, which sees only its own GPU."""
        return "cuda" if self.gpu else "cpu"

    @property
    def resources(self) -> dict[str, float]:
        """What Ray reserves for a worker."""
        return {"num_gpus": 1} if self.gpu else {"num_cpus": WORKER_CPUS, "num_gpus": 0}


def connect(address: str | None) -> Any:
    """The module `ray`, connected to a cluster: to that of an earlier call or of the program, if
    there is one.

    `address`: of the request. Raises MissingExtra, and ConfigError if there is no such cluster.
    """
    require("ray", opt("engine", "ray"))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return ray
    _check_reachable(address)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=40)
    except Exception as e:  # Ray raises plain ones where a cluster does not start
        raise ConfigError(
            f": no Ray cluster could be used there: {' '.join(str(e).split())[:300].rstrip('.')}.",
            option="ray_address",
            value=address,
        ) from e
    return ray


def place(request: RunRequest) -> Placement:
    """How many workers there are, and what they run on, as the cluster is now.

    Connects to the cluster. Raises ConfigError if the request asks for GPUs and there are none.
    """
    resources = connect(request.ray_address).cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    gpu = request.device == "cuda" or (request.device == "auto" and gpus > 0)
    if gpu and not gpus and request.ray_workers is None:
        raise ConfigError(
            f": the Ray cluster has no GPU. Start nodes that have some, give {opt('device', 'cpu')}"
            f", or {opt('ray_workers', 8)} to wait for as many.",
            option="device",
            value=request.device,
        )
    dtype = request.dtype
    if dtype == "auto":  # as `backends` decides where it sees the device, which this node may lack
        dtype = "bfloat16" if gpu else "float32"
    workers = request.ray_workers or max(gpus if gpu else cpus, 1)
    return Placement(gpu, workers, dtype)


def _check_reachable(address: str | None) -> None:
    """Raise ConfigError at once if nothing answers: Ray itself tries for minutes, and then ends the
    process."""
    given = address or os.environ.get("RAY_ADDRESS") or "auto"
    place = parse_address(given)
    if place is None:
        return
    try:
        socket.create_connection(place, CONNECT_SECONDS).close()
    except OSError as e:
        where = "" if address else " ($RAY_ADDRESS)"
        raise ConfigError(
            f"{where}: nothing answers there ({e.strerror or e}). Is it the address of the "
            "cluster's head, with its port (6379 unless it was changed)?",
            option="ray_address",
            value=given,
        ) from e
