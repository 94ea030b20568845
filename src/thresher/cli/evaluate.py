"""`thresher evaluate`: ask a model the questions of a test set and count how many it gets right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli import options as o
from thresher.cli.guard import Interrupted, note

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.evaluation import Evaluation
    from thresher.request import RunRequest
    from thresher.storage.columns import Store
    from thresher.tracking import Tracking

MOST_GROUPS = 30


@o.takes_request("evaluate")
def evaluate(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="TEST", help="The test set, in any pool format.", show_default=False
        ),
    ] = None,
    score: Annotated[
        str,
        typer.Option(
            "--score",
            metavar="HOW",
            help="generate, choice (among candidates), or auto: decided for each row.",
        ),
    ] = "auto",
    by: Annotated[
        str,
        typer.Option("--by", metavar="FIELD", help="Split by a field of the records, or source."),
    ] = "source",
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.json",
            help="Write the results, and all answers as a parquet file next to it.",
            show_default=False,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Longest generated answer.")
    ] = 32,
    lmms_eval: Annotated[
        str | None,
        typer.Option(
            "--lmms-eval",
            metavar="TASKS",
            help="Also run these lmms-eval tasks (comma-separated).",
            show_default=False,
        ),
    ] = None,
    lmms_eval_model: Annotated[
        str | None,
        typer.Option(
            "--lmms-eval-model",
            metavar="NAME",
            help="Name of the model class in lmms-eval.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Ask a model the questions of a test set and score its answers.

    Answers are stored as they come: a stopped evaluation resumes where it left off.
    """
    from thresher.errors import ConfigError, opt
    from thresher.evaluation import report
    from thresher.evaluation.evaluator import check_options
    from thresher.evaluation.tracked import track_evaluation, track_tasks
    from thresher.methods.needs import no_model
    from thresher.selection.opening import store_of
    from thresher.selection.request_models import the_model
    from thresher.tracking import require_tracker, tracked

    if data is None and lmms_eval is None:
        raise ConfigError(
            f"Missing: {opt('data')} (a file of any format of a pool), or {opt('lmms_eval')}."
        )
    check_options(score, max_new_tokens)
    request = o.request_of(context)
    if request.model is None:
        raise no_model("thresher evaluate")
    require_tracker(request.track)
    file = report.check_output(out) if out is not None else None
    kept = store_of(request)
    kept.check()
    handle = the_model(request, kept)
    assert handle is not None  # request.model was checked above
    arguments = _lmms_arguments(handle, lmms_eval_model) if lmms_eval is not None else []

    asked = o.asked_of(request, "evaluate") | {
        "data": data,
        "score": score,
        "by": by,
        "max_new_tokens": max_new_tokens,
        "lmms_eval": lmms_eval,
    }
    content: dict[str, Any] = {}
    found = None
    with tracked(request.track, file.stem if file else "evaluate", asked, note) as tracking:
        if data is not None:
            found = _ask(request, handle, kept, data, score, by, max_new_tokens, tracking)
            content = found.to_json()
            show(found)
            if file is not None:
                report.write_evaluation(content, found.rows, file)
            track_evaluation(found, tracking)
        if lmms_eval is not None:
            from thresher.evaluation import lmms

            folder = file.with_suffix(".lmms_eval") if file is not None else Path("lmms_eval")
            content.setdefault("model", handle.name)
            content["lmms_eval"] = lmms.run_tasks(arguments, lmms_eval, folder)
            _show_tasks(content["lmms_eval"])
            if file is not None:
                report.write_evaluation(content, found.rows if found is not None else None, file)
            track_tasks(content["lmms_eval"], tracking)
    if file is not None:
        also = f" and {file.with_suffix('.parquet')}" if found is not None else ""
        typer.echo(f"Written: {file}{also}")


def _ask(
    request: RunRequest,
    handle: ModelHandle,
    store: Store,
    data: str,
    score: str,
    by: str,
    max_new_tokens: int,
    tracking: Tracking,
) -> Evaluation:
    from thresher.console.progress import stderr_progress
    from thresher.evaluation import evaluate as run
    from thresher.selection.opening import TEST, open_the_pool

    pool = open_the_pool(
        *(data, request.images, store, note),
        trust_paths=request.trust_paths,
        splits=TEST,
        video_frames=request.video_frames,
    )
    progress = stderr_progress()
    try:
        return run(
            handle,
            pool,
            score=score,  # type: ignore[arg-type]  # checked by evaluate
            by=by,
            store=store,
            progress=tracking.progress(progress),
            max_new_tokens=max_new_tokens,
            on_missing=request.on_missing,
            retry_errors=request.retry_errors,
        )
    except KeyboardInterrupt:
        raise Interrupted(progress.rows) from None


def _lmms_arguments(handle: ModelHandle, adapter: str | None) -> list[str]:
    """The arguments for lmms-eval, checked before anything is run.

    Raises MissingExtra, ConfigError, ModelError.
    """
    from thresher.backends.identity import BUILT_IN as FOLDER
    from thresher.evaluation import lmms
    from thresher.training.registry import bounds_of

    lmms.find_command()
    path = FOLDER if handle.name == "demo" else Path(handle.name).expanduser()
    return lmms.model_arguments(
        handle.name,
        path if path.exists() else None,
        handle.identity.architecture,
        adapter,
        bounds_of(handle.identity),
    )


def show(found: Evaluation) -> None:
    """Print the totals, how rows were asked, what failed, and a table of the groups."""
    from rich.markup import escape

    from thresher.console.formatting import format_duration, pluralize
    from thresher.console.printing import say, stdout, table
    from thresher.engine import commonest

    console = stdout()
    say(
        console,
        f"[bold]Accuracy {_percent(found.accuracy)}[/] ({_range(found.interval)}) on {found.n:,} "
        f"rows; macro over {len(found.by)} group{'' if len(found.by) == 1 else 's'} "
        f"{_percent(found.macro)} ({_range(found.macro_interval)}).",
    )
    ways = {"choice": "chosen among candidates", "generate": "generated"}
    asked = ", ".join(f"{n:,} {ways[how]}" for how, n in found.scored.items())
    say(
        console,
        f"Answers: {asked}; {found.asked:,} asked of the model now, in "
        f"{format_duration(found.seconds)}. ANLS {_percent(found.anls)}, relaxed accuracy "
        f"{_percent(found.relaxed)}.",
    )
    ranked = sorted(found.by.items(), key=lambda item: (-item[1].n, item[0]))
    out = table(
        escape(str(found.about["grouped_by"])), "rows", "accuracy", "95% interval", "failed"
    )
    for name, g in ranked[:MOST_GROUPS]:
        out.add_row(
            escape(name), f"{g.n:,}", _percent(g.accuracy), _range(g.interval), f"{g.failed:,}"
        )
    if len(found.by) > 1:
        console.print(out)
    if len(ranked) > MOST_GROUPS:
        console.print(f"… and {len(ranked) - MOST_GROUPS:,} smaller groups (all are in --out).")
    if found.failed:
        note(
            f"{pluralize(found.failed)} could not be evaluated and are not counted: "
            f"{commonest(found.failures)}."
        )
    if found.cut:
        note(
            f"{found.cut:,} generated answers did not end by themselves and were cut; see "
            "--max-new-tokens."
        )


def _show_tasks(tasks: dict[str, dict[str, float]]) -> None:
    from rich.markup import escape

    from thresher.console.printing import stdout, table

    out = table("lmms-eval task", "metric", "value")
    for task, metrics in tasks.items():
        for name, value in metrics.items():
            out.add_row(escape(task), escape(name), f"{value:.4g}")
    stdout().print(out)


def _percent(x: float) -> str:
    return f"{100 * x:.1f}%"


def _range(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
