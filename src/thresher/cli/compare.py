"""`thresher compare`: does a method's subset beat a random one on the user's own data? Select,
train, evaluate, judge.

Longer than 400 lines because all options of the command, its checks and its tables are here.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import note
from thresher.request.spelling import as_flag

if TYPE_CHECKING:
    from thresher.compare import Comparison, Line
    from thresher.compare.plan import ComparePlan
    from thresher.pools import Pool
    from thresher.types import Method

RECIPE_PANEL = "Training"


@o.takes_request("compare")
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
    from thresher.backends.openai.resolve import is_served
    from thresher.compare import check_leaks
    from thresher.compare import compare as run
    from thresher.compare import make_job as prepare
    from thresher.console.progress import stderr_progress
    from thresher.duplicates import only_exact_note
    from thresher.engine import RunContext
    from thresher.errors import CapabilityError, opt
    from thresher.extras import require
    from thresher.methods.needs import needs_target, no_model
    from thresher.selection.config import default_store, parse_settings
    from thresher.selection.opening import (
        TEST,
        VALIDATION,
        open_the_pool,
        the_model,
        the_roles,
        trainer_for,
    )
    from thresher.selection.requirements import check_extras
    from thresher.storage.opening import open_store
    from thresher.tracking import require_tracker, tracked
    from thresher.training.recipe import Recipe
    from thresher.types import Budget

    chosen = load(methods, settings or [])
    recipe = Recipe(
        epochs=epochs,
        learning_rate=lr,
        batch=batch,
        accumulation=accumulation,
        lora=not all_weights,
    )
    request = o.request_of(context, settings=None)  # settings are METHOD.KEY here
    if request.model is None:
        raise no_model("thresher compare")
    require("train", "thresher compare")
    require_tracker(request.track)
    for one in chosen.values():
        check_extras(one, model=request.model, uses_model=True, dedup=None)
    kept = open_store(default_store() if request.store is None else request.store)
    kept.check()
    handle = the_model(request, kept)
    assert handle is not None
    if is_served(handle.identity):
        raise CapabilityError(
            f"compare trains {opt('model')} once a cell, and {handle.name!r} is behind a server. "
            f"Give its weights: {opt('model')} with a folder or a hub id. (Further models, such as "
            "a teacher, may be behind a server.)"
        )
    job = prepare(
        open_the_pool(
            *(pool, request.images, kept, note),
            trust_paths=request.trust_paths,
            video_frames=request.video_frames,
        ),
        open_the_pool(
            *(test, eval_images, kept, note),
            trust_paths=request.trust_paths,
            splits=TEST,
            video_frames=request.video_frames,
        ),
        methods=chosen,
        budgets=[Budget.parse(text) for text in budgets.split(",") if text.strip()],
        seeds=seeds,
        model=handle,
        recipe=recipe,
        full=full,
        equal=equal,  # type: ignore[arg-type]  # checked by job
        score=_score(score),
        roles={
            name: the_roles(method, request, kept, option=f"settings.{name}.{{}}".format)
            for name, method in chosen.items()
        },
        target=None
        if request.validation is None
        else open_the_pool(
            request.validation,
            request.validation_images,
            kept,
            note,
            trust_paths=request.trust_paths,
            splits=VALIDATION,
            video_frames=request.video_frames,
        ),
        request=request,
    )
    run_context = RunContext(kept, trainer=trainer_for(request, kept), progress=stderr_progress())
    if request.validation is not None and not any(map(needs_target, chosen.values())):
        note(
            "none of the methods uses a validation set; "
            f"--validation {request.validation} is not used."
        )
    _check_questions(job.test, job.score, request.on_missing)
    if unchecked := only_exact_note():
        note(unchecked)
    if plan:
        from thresher.compare.plan import plan as estimate

        for remark in check_leaks(job, run_context):
            note(remark)
        show_plan(estimate(job, run_context, out, probe=probe))
        return
    from thresher.compare.tracked import track_comparison
    from thresher.evaluation import evaluate
    from thresher.report import try_to_write

    asked = request.to_mapping() | {
        "pool": pool,
        "eval": test,
        "methods": methods,
        "budgets": budgets,
        "seeds": seeds,
        "settings": parse_settings(settings or []),
        "recipe": asdict(recipe),
        "equal": equal,
    }
    with tracked(request.track, Path(out).resolve().name, asked, note) as tracking:
        comparison = run(
            job,
            replace(run_context, progress=tracking.progress(run_context.progress)),
            out,
            evaluate=partial(evaluate, score=job.score, on_missing=request.on_missing),  # type: ignore[arg-type]
            keep_models=keep_models,
            report=lambda text: typer.echo(f"Cell {text}", err=True),
        )
        track_comparison(comparison, tracking)
    if problem := try_to_write(out):
        note(problem)
    show(comparison, Path(out))


def load(names: str, settings: list[str]) -> dict[str, Method]:
    """The methods to compare, by name.

    >>> sorted(load("clipper,mllm_selector", ["clipper.bins=10"]))
    ['clipper', 'mllm_selector']

    Arguments:
        names: of methods, with commas between them.
        settings: METHOD.KEY=VALUE each.

    Raises ConfigError for an unknown method or setting, and where only random is named.
    """
    from thresher.errors import SETTING, ConfigError, did_you_mean, opt
    from thresher.methods import load as load_method
    from thresher.request.spelling import as_flag_of
    from thresher.selection.config import parse_settings

    requested = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not [name for name in requested if name != "random"]:
        raise ConfigError(
            ": name at least one to compare with random; `thresher methods` lists them.",
            option="methods",
        )
    given: dict[str, dict[str, str]] = {name: {} for name in requested}
    for key, value in parse_settings(settings).items():
        method, dot, name = key.partition(".")
        if not dot or method not in given:
            raise ConfigError(
                f": expected METHOD.KEY=VALUE with one of {opt('methods')}, such as "
                f"{requested[0]}.KEY={value}.{did_you_mean(method, requested) if dot else ''}",
                option=f"settings.{key}",
                value=value,
            )
        given[method][name] = value

    def load_one(name: str) -> Method:
        try:
            return load_method(name, given[name])
        except ConfigError as e:
            if not e.option.startswith(SETTING):
                raise
            raise ConfigError(e.spelled(as_flag_of(name))) from None  # as it is typed here

    return {name: load_one(name) for name in requested}


def _check_questions(test: Pool, score: str, on_missing: str) -> None:
    """Check that the evaluation set can be evaluated, before the first cell is trained. Raises
    ConfigError, TooManyFailures."""
    from thresher.errors import TooManyFailures
    from thresher.evaluation import check_rows

    try:
        # checked above
        check_rows(test, score=score, on_missing=on_missing)  # type: ignore[arg-type]
    except TooManyFailures as e:
        raise TooManyFailures(f": {e.message}", option="eval", value=test.path) from None


def _score(score: str) -> str:
    from thresher.errors import ConfigError, did_you_mean
    from thresher.evaluation import SCORES

    if score not in SCORES:
        raise ConfigError(
            f": expected one of {', '.join(SCORES)}.{did_you_mean(score, list(SCORES))}",
            option="score",
            value=score,
        )
    return score


# ----------------------------------------------------------------------------------------- printing

WORDS = {
    "beats": "[bold green]beats random[/]",
    "no gain": "no gain",
    "worse": ("[bold red]worse than random[/]"),
}


def show(comparison: Comparison, out: Path) -> None:
    """Print the table, a sentence for each verdict, the cost, notes, and where the files are.

    Arguments:
        comparison: what was compared.
        out: the folder that it was written to.
    """
    from rich.markup import escape

    from thresher.console.formatting import format_duration
    from thresher.console.printing import say, stdout, table
    from thresher.stats.verdict import describe_random_rows

    console = stdout()
    seeds = len({cell.seed for cell in comparison.cells})
    say(
        console,
        "Accuracy in %, mean ± 95% interval over seeds; difference paired by evaluation row and "
        "seed.",
    )
    grid = table(
        "method",
        "budget",
        "rows",
        "accuracy",
        "% of full",
        "− random",
        "verdict",
        "selecting",
        "training",
        "saved",
    )
    budget = None
    for line in comparison.lines:
        if budget not in (None, line.budget):
            grid.add_section()
        budget = line.budget
        v = line.verdict
        grid.add_row(
            escape(line.method),
            line.budget,
            f"{line.rows:,}",
            str(line.mean),
            "" if line.percent_of_full is None else f"{line.percent_of_full:.1f}",
            "" if v is None else f"{v.difference.mean:+.1f} ± {v.difference.half:.1f}",
            "" if v is None else WORDS[v.kind],
            format_duration(line.seconds_selection),
            format_duration(line.seconds_training),
            "" if line.seconds_saved is None else _signed(line.seconds_saved),
        )
    console.print(grid)
    for line in comparison.lines:
        if line.verdict is not None:
            say(
                console,
                f"{line.method} at {line.budget}: {line.verdict.words}"
                f"{describe_random_rows(line.random_seeds, seeds)}{_worth(line)}.",
                markup=False,
            )
    for remark in comparison.notes:
        say(console, f"Note: {remark.spelled(as_flag)}", markup=False)
    for text in comparison.selection_notes():
        say(console, f"Note from {text}", markup=False)
    say(console, f"Written to [bold]{escape(str(out))}[/]: compare.json, compare.svg")


def _worth(line: Line) -> str:
    """The time for selecting compared with the training time that it saves, as text."""
    from thresher.console.formatting import format_duration
    from thresher.selection.saving import pays_off

    if line.seconds_saved is None:
        return ""
    selecting = f"; selecting takes {format_duration(line.seconds_selection)}"
    if line.seconds_saved <= 0:
        return f"{selecting} and saves no training time: it never pays off in time"
    pays = pays_off(line.seconds_selection, line.seconds_saved)
    return f"{selecting} and saves {format_duration(line.seconds_saved)} of training: it {pays}"


def _signed(seconds: float) -> str:
    from thresher.console.formatting import format_duration

    return format_duration(seconds) if seconds >= 0 else f"-{format_duration(-seconds)}"


def show_plan(plan: ComparePlan) -> None:
    """Print the cells, and what the missing ones would cost."""
    from thresher.console.formatting import format_duration
    from thresher.console.printing import say, stdout, table

    console = stdout()
    cells = table("method", "budget", "rows", "cells", "finished", "rows to train on")
    for p in plan.cells:
        cells.add_row(
            p.method, p.budget, f"{p.rows:,}", f"{p.seeds}", f"{p.done}", f"{p.training_rows:,}"
        )
    console.print(cells)
    if not plan.unfinished:
        say(console, "All cells are finished: nothing is left to do.")
        return
    own = plan.own_training_rows
    more = f" (and at most {own:,} to train models on that methods need first)" if own else ""
    say(
        console,
        f"{plan.unfinished} cells to run: {plan.training_rows:,} rows to train on{more}, at most "
        f"{plan.to_score:,} rows to score for selecting, {plan.answers:,} answers.",
    )
    if plan.hours is None:
        say(console, "The time was not measured.")
    else:
        say(
            console,
            f"About {format_duration(3600 * plan.hours)}, measured on 64 rows, if training on a "
            "row costs three times as much and answering twice.",
        )
