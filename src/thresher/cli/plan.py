"""`thresher plan`: what a run would score and cost, before it is paid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o

if TYPE_CHECKING:
    from thresher.plan import Plan


def plan(
    context: typer.Context,
    pool: o.Pool = None,
    images: o.Images = None,
    format: o.Format = None,
    method: o.Method = None,
    budget: o.BudgetText = None,
    settings: o.Settings = None,
    seed: o.Seed = None,
    teacher: o.Teacher = None,
    validation: o.Validation = None,
    validation_images: o.ValidationImages = None,
    config: o.Config = None,
    quota: o.Quota = None,
    keep: o.Keep = None,
    drop: o.Drop = None,
    filter: o.Filter = None,
    dedup: o.Dedup = None,
    unscorable: o.Unscorable = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Measure 64 rows to estimate time and memory, or open no model.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    model: o.Model = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_tokens: o.BatchTokens = None,
    trust_remote_code: o.TrustRemoteCode = None,
    backend: o.Backend = None,
    url: o.Url = None,
    max_requests: o.MaxRequests = None,
    max_cost: o.MaxCost = None,
    price_in: o.PriceIn = None,
    price_out: o.PriceOut = None,
    concurrency: o.Concurrency = None,
    timeout: o.Timeout = None,
    api_key_env: o.ApiKeyEnv = None,
    image_side: o.ImageSide = None,
    store: o.StorePath = None,
    retry_errors: o.RetryErrors = None,
) -> None:
    """Say what select with the same options would score and what it would cost. Nothing is stored."""
    from thresher.cli.prepare import prepare
    from thresher.plan import plan as make

    told = o.told(context)
    job = prepare(told, out=False)
    made = make(
        job.pool,
        job.method,
        job.budget,
        job.model,
        job.store,
        seed=told.seed,
        retry_errors=told.retry_errors,
        probe=probe,
        roles=job.roles,
        mixture=job.config.mixture,
        target=job.target,
    )
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2, ensure_ascii=False))
    else:
        show(made)


def show(plan: Plan) -> None:
    """A sentence, a table of what is to be scored, the cost, and what the budget saves."""
    from rich.markup import escape

    from thresher.progress import duration
    from thresher.summary import say, stdout, table

    console = stdout()
    asked = f", asking {escape(plan.model)}" if plan.model else ""
    say(
        console,
        f"[bold]{plan.method}[/] would keep {plan.budget:,} of {plan.pool_rows:,} rows ({plan.share:.1%}){asked}; "
        f"training on them takes {plan.saved:.0%} less time than on all.",
    )
    if plan.signals:
        out = table("scores", "wanted", "in the store", "to score", "tokens", "time")
        for s in plan.signals:
            mark = "at most " if s.upper_bound else ""
            tokens = "?" if s.tokens is None else f"{s.tokens:,}"
            hours = "?" if s.hours is None else duration(s.hours * 3600)
            out.add_row(s.label, f"{s.wanted:,}", f"{s.stored:,}", f"{mark}{s.to_score:,}", tokens, hours)
        console.print(out)
    if not plan.signals:
        say(console, "The method asks no model about the rows.")
    elif plan.to_score == 0:
        say(console, "Nothing is left to score: no model will be opened.")
    else:
        most = "at most " if plan.upper_bound else ""
        tokens = "an unknown number of" if plan.tokens is None else f"about {plan.tokens:,}"
        hours = "an unknown time" if plan.hours is None else f"about {duration(plan.hours * 3600)}"
        say(console, f"In all {most}{plan.to_score:,} rows to score, {tokens} tokens, {hours}; {plan.basis}.")
        if plan.peak_bytes is not None:
            say(console, f"Peak memory about {plan.peak_bytes / 2**30:.1f} GiB.")
    for text in plan.notes:
        say(console, f"Note: {text}", markup=False)
