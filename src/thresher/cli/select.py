"""`thresher select`: the main job. Pool, method and budget in; a folder with the subset and the
reasons out."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import Interrupted, note
from thresher.errors import CapReached

if TYPE_CHECKING:
    from thresher.selection.opening import Job


@o.takes_request("select")
def select(
    context: typer.Context,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the selection of another request in the folder."),
    ] = False,
    teacher: o.Teacher = None,
    config: o.Config = None,
) -> None:
    """Choose the rows worth training on and write them to a folder.

    Scores are stored as they come: a stopped run resumes where it left off.

    Another budget, method or seed reuses the stored scores.
    """
    from thresher.console.progress import stderr_progress
    from thresher.selection.opening import prepare
    from thresher.tracking import require_tracker, tracked

    asked = o.request_of(context)
    require_tracker(asked.track)
    job = prepare(
        asked,
        note,
        out=True,
        options=o.roles_by_option(context),
        overwrite=overwrite,
    )
    task, request = job.task, job.task.request
    assert request.out is not None  # `prepare` requires it
    folder = Path(request.out)
    from thresher.report import try_to_write
    from thresher.selection import folder as output
    from thresher.selection import iterate as in_rounds
    from thresher.selection import summary
    from thresher.selection.cost_record import cost_section
    from thresher.selection.engines import workers
    from thresher.selection.result import require_rows
    from thresher.selection.tracked import track_selection

    progress = stderr_progress()
    with tracked(request.track, folder.resolve().name, request.to_mapping(), note) as tracking:
        shown = tracking.progress(progress)
        job = replace(job, context=replace(job.context, progress=shown))
        began = time.monotonic()
        try:
            with workers(job, note) as job:
                outcome = in_rounds.select(task, job.context)
        except KeyboardInterrupt:
            raise Interrupted(progress.rows) from None
        except CapReached as stop:
            raise CapReached(f"{left(job)} {stop.message}") from None
        require_rows(outcome)
        seconds = time.monotonic() - began
        cost = cost_section(task, job.context, seconds, job.server.account.requests)
        output.write(outcome, task.pool, request, folder, overwrite=overwrite, cost=cost)
        track_selection(outcome, task.pool, request, tracking)
    if problem := try_to_write(folder, task.pool):
        note(problem)
    summary.show(outcome, task.pool, request, folder)
    if job.server.account.requests:
        note(f"{job.server.bill()}.")


def left(job: Job) -> str:
    """How many rows are still to be scored, as text."""
    from thresher.selection.plan import left_to_score, plan

    made = plan(job.task, job.context, probe=False)
    return left_to_score(made.signals, made.usable_rows)
