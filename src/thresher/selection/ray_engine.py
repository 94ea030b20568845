"""`--engine ray`: workers on a Ray cluster score, this process waits for them and selects.

A worker that dies, alone or with its node, is replaced; the rows that it had claimed and not stored
are scored by whoever is free (`engine.sharing`). Writes only the claim that shows workers that they
see the same store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError, opt, spelled
from thresher.request.spelling import as_flag
from thresher.selection.ray_actor import make_job
from thresher.selection.ray_cluster import Placement, connect, place
from thresher.selection.ray_workers import ROWS, RayWorkers, Work
from thresher.storage.addresses import absolute

if TYPE_CHECKING:
    from thresher.engine import RunContext
    from thresher.request import RunRequest
    from thresher.selection.opening import Job


@contextmanager
def ray_workers(job: Job, say: Callable[[str], None]) -> Iterator[Job]:
    """The job, scored by workers on the Ray cluster of its request while the block runs.

    Without workers for a method that asks no model.

    Arguments:
        job: the job.
        say: receives notes where the job has no progress.

    Raises ConfigError, and in the block what made the last worker fail.
    """
    context, request = job.context, job.task.request
    models = [h for h in (context.model, *context.roles.values()) if h is not None]
    if not models:
        say(f"{job.task.method.name} asks no model; {opt('engine', 'ray')} is not used.")
        yield job
        return
    for model in models:
        if model.identity.served:
            raise ConfigError(
                f": {model.name} is behind a server, which distributes its work itself. Leave it "
                "out.",
                option="engine",
                value="ray",
            )
    with started(request, context, ROWS, partial(request_of_worker, request), say) as workers:
        yield replace(job, context=replace(context, workers=workers))


@contextmanager
def started(
    request: RunRequest,
    context: RunContext,
    work: Work,
    given: Callable[[Placement, str], Mapping[str, Any]],
    say: Callable[[str], None],
    began: Callable[[str, str], None] | None = None,
) -> Iterator[RayWorkers]:
    """Workers on the Ray cluster of a request while the block runs.

    Arguments:
        request: with the cluster.
        context: the store, and the progress that receives lines about the workers.
        work: what they do.
        given: placement and store -> what a worker is asked for, as plain values.
        say: receives notes where the context has no progress.
        began: as of `RayWorkers`.

    Raises ConfigError, and in the block what made the last worker fail.
    """
    progress, store = context.progress, absolute(context.store.address)
    with context.store.claims(()) as claims:
        placement = place(request)
        workers = RayWorkers(
            connect(request.ray_address),
            make_job(
                given(placement, store), store, claims.name, placement.workers, context.started
            ),
            placement,
            lambda: place(request).workers,
            say if progress is None else lambda text: progress.say(spelled(text, as_flag)),
            None if progress is None else progress.say,
            work,
            began,
        )
        saved = False
        try:
            yield workers
            saved = True
        finally:
            workers.close(saved)


def request_of_worker(request: RunRequest, placement: Placement, store: str) -> dict[str, Any]:
    """The request of a worker, as plain values.

    Arguments:
        request: of the command.
        placement: what the worker runs on.
        store: address or absolute path.
    """
    given = request.to_mapping() | {
        "device": placement.device,
        "dtype": placement.dtype,
        "store": store,
    }
    for name in ("engine", "ray_address", "ray_workers", "track", "out"):
        given.pop(name, None)
    return given
