"""`thresher select`: the main job. Pool, method and budget in; a folder with the subset and the reasons out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import Interrupted


def select(
    context: typer.Context,
    pool: o.Pool = None,
    images: o.Images = None,
    method: o.Method = None,
    budget: o.BudgetText = None,
    settings: o.Settings = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.", show_default=False)
    ] = None,
    seed: o.Seed = None,
    config: o.Config = None,
    model: o.Model = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_tokens: o.BatchTokens = None,
    trust_remote_code: o.TrustRemoteCode = None,
    store: o.StorePath = None,
    on_missing: o.OnMissing = None,
    retry_errors: o.RetryErrors = None,
) -> None:
    """Choose the rows worth training on and write them to a folder.

    Scores are stored as they come: a stopped run goes on where it was.

    Another budget, method or seed reuses the scores that are there.
    """
    from thresher.cli.prepare import prepare
    from thresher.progress import for_stderr

    told = o.told(context)
    job = prepare(told, out=True)
    assert job.config.out is not None  # prepare asks for it
    folder = Path(job.config.out)
    from thresher import output, run, summary

    progress = for_stderr()
    try:
        outcome = run.select(
            job.pool,
            job.method,
            job.budget,
            seed=told.seed,
            model=job.model,
            store=job.store,
            on_missing=told.on_missing,  # type: ignore[arg-type]  # checked by combine
            retry_errors=told.retry_errors,
            progress=progress,
            trainer=job.trainer,
            roles=job.roles,
        )
    except KeyboardInterrupt:
        raise Interrupted(progress.rows) from None
    output.write(outcome, job.pool, job.config, folder)
    summary.show(outcome, job.pool, job.config, folder)
