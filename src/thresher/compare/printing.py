"""What `thresher compare` prints: the table of methods and its verdicts, or the plan. On stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from thresher.compare.table import Comparison, Line
from thresher.console.formatting import format_duration, pluralize
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


def show(comparison: Comparison, out: Path, *, report: bool = False) -> None:
    """Print the table, a sentence for each verdict, the cost, notes, and where the files are.

    Without the whole pool there is nothing to compare with it, and its columns are left out.

    Arguments:
        comparison: what was compared.
        out: the folder that it was written to.
        report: whether its report.html was written.
    """
    console = stdout()
    seeds = len({cell.seed for cell in comparison.cells})
    say(
        console,
        "Accuracy in %, mean ± 95% interval over seeds; difference paired by evaluation row and "
        "seed.",
    )
    of_full = any(line.percent_of_full is not None for line in comparison.lines)
    saved = any(line.seconds_saved is not None for line in comparison.lines)
    grid = table(
        *("method", "budget", "rows", "accuracy"),
        *(["% of full"] if of_full else []),
        *("− random", "verdict", "selecting", "training"),
        *(["saved"] if saved else []),
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
            *([_percent(line.percent_of_full)] if of_full else []),
            "" if v is None else f"{v.difference.mean:+.1f} ± {v.difference.half:.1f}",
            "" if v is None else WORDS[v.kind],
            format_duration(line.seconds_selection),
            format_duration(line.seconds_training),
            *([_signed(line.seconds_saved)] if saved else []),
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
    files = ["compare.json", "compare.svg", *(["report.html"] if report else [])]
    say(console, f"Written to [bold]{escape(str(out))}[/]: {', '.join(files)}")


def _worth(line: Line) -> str:
    """The time for selecting compared with the training time that it saves, as text."""
    if line.seconds_saved is None:
        return ""
    selecting = f"; selecting takes {format_duration(line.seconds_selection)}"
    if line.seconds_saved <= 0:
        return f"{selecting} and saves no training time: it never pays off in time"
    pays = pays_off(line.seconds_selection, line.seconds_saved)
    return f"{selecting} and saves {format_duration(line.seconds_saved)} of training: it {pays}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _signed(seconds: float | None) -> str:
    if seconds is None:
        return ""
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
        f"{pluralize(plan.unfinished, 'cell')} to run: {pluralize(plan.training_rows)} to train "
        f"on{more}, at most {pluralize(plan.to_score)} to score for selecting, "
        f"{pluralize(plan.answers, 'answer')}.",
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
