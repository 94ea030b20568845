"""One worker process of `--devices` (`worker_process`): scores the rows of a request that are still
missing, and exits.

It is asked for {"request": {…}, "started": ns}: the request, and when its command began. Writes
scores into the store only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thresher.request import RunRequest, fields_of
from thresher.selection.config import combine
from thresher.selection.worker_process import run_worker

if TYPE_CHECKING:
    from thresher.console.progress import Progress


def read_request(values: Mapping[str, Any]) -> RunRequest:
    """The request from what `to_mapping` gave."""
    known = fields_of(RunRequest)
    return combine({}, {k: tuple(v) if known[k].type is tuple else v for k, v in values.items()})


def score(
    request: RunRequest,
    progress: Progress | None = None,
    on_stored: Callable[[int], None] | None = None,
    processes: int = 1,
    started: int | None = None,
) -> None:
    """Score the missing rows of the request's columns, as many as other processes leave.

    Arguments:
        request: whose columns are needed.
        progress: receives progress reports; None: none.
        on_stored: called with the number of rows whenever some were stored.
        processes: number of processes that were started to score these rows.
        started: when the command began, `time.time_ns()`; None: now.
    """
    from thresher.selection import iterate
    from thresher.selection.opening import prepare

    job = prepare(request, lambda text: None, out=False, progress=False)
    context = replace(
        job.context,
        progress=progress,
        on_stored=on_stored,
        processes=processes,
        started=job.context.started if started is None else started,
    )
    iterate.select(job.task, context)


def main() -> None:
    run_worker(lambda given: score(read_request(given["request"]), started=given["started"]))


if __name__ == "__main__":
    main()
