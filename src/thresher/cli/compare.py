"""`thresher compare`: does a method's subset beat a random one on the user's own data? Select,
train, evaluate, judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import note

RECIPE_PANEL = "Training"


@o.takes_request(
    "compare",
    help={
        "model": "The base model that every cell trains: a folder, a hub id, or demo (built in, "
        "tiny, for trying things out); not a server."
    },
)
def compare(
    context: typer.Context,
    pool: Annotated[
        str,
        typer.Argument(
            metavar="POOL", help="The pool: a file, folder or pattern.", show_default=False
        ),
    ],
    test: Annotated[
        str, typer.Option("--eval", metavar="FILE", help="The evaluation set.", show_default=False)
    ],
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            "-m",
            metavar="A,B",
            help="What to compare with random.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="DIR", help="The folder to write.", show_default=False),
    ],
    budgets: Annotated[
        str, typer.Option("--budgets", "-b", metavar="B,C", help="Shares or numbers of rows.")
    ] = "10%",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", help="Repetitions, each with its own seed.")
    ] = 3,
    eval_images: Annotated[
        str | None,
        typer.Option(
            "--eval-images",
            metavar="DIR",
            help="Folder that image paths of --eval start from (default: its own folder).",
            show_default=False,
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full/--no-full", help="Also train on the whole pool.")
    ] = True,
    equal: Annotated[
        str,
        typer.Option(
            "--equal", metavar="WHAT", help="Each subset gets equal epochs, or equal steps."
        ),
    ] = "epochs",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="METHOD.KEY=VALUE",
            help="A setting of a method. Repeatable.",
            show_default=False,
        ),
    ] = None,
    score: Annotated[
        str,
        typer.Option(
            "--score",
            metavar="HOW",
            help="generate, choice, or auto: choice where there are candidates.",
        ),
    ] = "auto",
    plan: Annotated[bool, typer.Option("--plan", help="Estimate the cost and stop.")] = False,
    probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="With --plan: measure 64 rows, or open no model."),
    ] = True,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep the model of every cell.")
    ] = False,
    epochs: Annotated[
        float,
        typer.Option(
            "--epochs", metavar="X", help="Passes over each subset.", rich_help_panel=RECIPE_PANEL
        ),
    ] = 1.0,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="RATE",
            help="Learning rate (default: as thresher train).",
            show_default=False,
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", help="Rows per batch.", rich_help_panel=RECIPE_PANEL),
    ] = 16,
    accumulation: Annotated[
        int,
        typer.Option(
            "--accumulation",
            metavar="N",
            help="Batches per optimiser step.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = 1,
    all_weights: Annotated[
        bool,
        typer.Option(
            "--all-weights",
            help="Train all weights, not LoRA adapters.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = False,
) -> None:
    """Test whether a method beats random on your data: train on each subset, evaluate, compare with
    intervals.

    Finished cells (method, budget, seed) are kept: a stopped comparison resumes where it left off,
    and another method or budget adds cells.
    """
    from thresher.compare import check_leaks
    from thresher.compare import compare as run
    from thresher.compare.opening import open_comparison
    from thresher.compare.printing import show, show_plan
    from thresher.compare.request import CompareRequest
    from thresher.compare.workers import cell_workers, has_workers, planned_devices
    from thresher.console.progress import LineProgress, stderr_progress
    from thresher.duplicates import only_exact_note
    from thresher.training.recipe import Recipe

    request = CompareRequest(
        options=o.request_of(context, settings=None),  # settings are METHOD.KEY here
        test=test,
        methods=methods,
        budgets=budgets,
        seeds=seeds,
        test_images=eval_images,
        full=full,
        equal=equal,
        settings=tuple(settings or ()),
        score=score,
        keep_models=keep_models,
        recipe=Recipe(
            epochs=epochs,
            learning_rate=lr,
            batch=batch,
            accumulation=accumulation,
            lora=not all_weights,
        ),
    )
    opened = open_comparison(request, note)
    job = opened.job
    progress = LineProgress() if has_workers(job.request) else stderr_progress()
    run_context = replace(opened.context, progress=progress)
    if unchecked := only_exact_note():
        note(unchecked)
    if plan:
        from thresher.compare.plan import plan as estimate

        for remark in check_leaks(job, run_context):
            note(remark)
        devices = planned_devices(job.request)
        show_plan(estimate(job, run_context, out, probe=probe, devices=devices))
        return
    from thresher.compare.tracked import track_comparison
    from thresher.report import try_to_write
    from thresher.tracking import tracked

    def begins(text: str) -> None:
        typer.echo(f"Cell {text}", err=True)

    name = Path(out).resolve().name
    with tracked(job.request.track, name, request.for_tracker(), note) as tracking:
        shown = replace(run_context, progress=tracking.progress(progress))
        with cell_workers(request, replace(opened, context=shown), note, begins) as shown:
            comparison = run(
                job,
                shown,
                out,
                evaluate=opened.evaluate,
                keep_models=keep_models,
                report=begins,
                note=note,
            )
        track_comparison(comparison, tracking)
    if problem := try_to_write(out):
        note(problem)
    show(comparison, Path(out), report=not problem)
