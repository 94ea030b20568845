"""The processes that score for a run, by its `--engine`: this one alone, one for each of
`--devices`, or workers on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thresher.selection.opening import Job


def workers(job: Job, say: Callable[[str], None]) -> AbstractContextManager[Job]:
    """The job, with further processes that score while the block runs, if its request asks for any.

    Arguments:
        job: the job.
        say: receives what went wrong with one of them.

    Raises ConfigError and MissingExtra.
    """
    if job.task.request.engine == "ray":
        from thresher.selection.ray_engine import ray_workers

        return ray_workers(job, say)
    from thresher.selection.devices import device_workers

    return device_workers(job, say)
