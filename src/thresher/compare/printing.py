"""What `thresher compare` prints: the table of methods and its verdicts, or the plan. On stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from thresher.compare.table import Comparison, Line
from thresher.console.formatting import format_duration
from thresher.console.printing import say, stdout, table
from thresher.request.spelling import as_flag
from thresher.selection.saving import pays_off
from thresher.stats.verdict import describe_random_rows

if TYPE_CHECKING:
    from thresher.compare.plan import ComparePlan

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
    if line.seconds_saved is None:
        return ""
    selecting = f"; selecting takes {format_duration(line.seconds_selection)}"
    if line.seconds_saved <= 0:
        return f"{selecting} and saves no training time: it never pays off in time"
    pays = pays_off(line.seconds_selection, line.seconds_saved)
    return f"{selecting} and saves {format_duration(line.seconds_saved)} of training: it {pays}"


def _signed(seconds: float) -> str:
    return format_duration(seconds) if seconds >= 0 else f"-{format_duration(-seconds)}"


def show_plan(plan: ComparePlan) -> None:
    """Print the cells, and what the missing ones would cost."""
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
    on = f" on {plan.devices} devices" if plan.devices > 1 else ""
    if plan.hours is None:
        say(console, "The time was not measured.")
    else:
        say(
            console,
            f"About {format_duration(3600 * plan.hours)}{on}, measured on 64 rows on this machine, "
            "if training on a row costs three times as much and answering twice.",
        )
