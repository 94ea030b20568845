"""What is printed after a selection: what was kept, what it cost, what failed, and how the subset
compares with the pool.

Each sentence has a function; `show` prints all of them on stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import format_percent
from thresher.console.printing import say, stdout
from thresher.request.spelling import as_flag
from thresher.selection.cost_lines import cost_line
from thresher.selection.groups import MOST_SOURCES, by_source, failure_kinds, skill_labels
from thresher.stats.distinct import distinct_texts

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.request import RunRequest
    from thresher.selection.result import Failure, Outcome

SAID_SOURCES = 4  # in the line about sources
LONGEST_NAME = 40  # characters of a source's name there
FILES = (
    "subset.json",
    "subset.jsonl",
    "subset.parquet",
    "selection.parquet",
    "run.yaml",
    "failures.jsonl",
    "errors.json",
    "errors.jsonl",
    "evidence.parquet",
    "duplicates.parquet",
    "report.html",
)
LOSSES = {"nll": "log-perplexity", "nll_one_shot": "after a demonstration"}


def kept_line(pool: Pool, rows: np.ndarray, what: str) -> str:
    """The headline: how many rows, and their share of the answers.

    Arguments:
        pool: that was selected from.
        rows: int64 [k], the selected pool rows.
        what: the method, for the text.
    """
    words = pool.facts["answer_words"]
    line = (
        f"Kept {len(rows):,} of {len(pool):,} rows "
        f"({format_percent(len(rows), len(pool))}) by {what}."
    )
    return (
        f"{line} {format_percent(int(words[rows].sum()), int(words.sum()))} of all answer words."
        if words.any()
        else line
    )


def sources_line(pool: Pool, rows: np.ndarray) -> str:
    """The largest sources with their share of the pool and of the kept rows; "" if there is only
    one.

    Arguments:
        pool: that was selected from.
        rows: int64 [k], the selected pool rows.
    """
    parts = by_source(pool.source, pool.source_names, SAID_SOURCES)
    if len(parts) < 2:
        return ""
    kept = np.zeros(len(pool), bool)
    kept[rows] = True
    described = []
    for name, mask in parts:
        short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
        before, after = (
            format_percent(int(mask.sum()), len(pool)),
            format_percent(int((mask & kept).sum()), len(rows)),
        )
        described.append(f"{short} {before} → {after}")
    return f"By source, pool → kept: {', '.join(described)}."


def skills_line(outcome: Outcome) -> str:
    """The largest skills, share of the rows that the method saw and of the kept ones; their groups
    where there are many skills; "" if no skill is known."""
    found, what = skill_labels(outcome.evidence), "skill"
    if found is None or not len(outcome.rows):
        return ""
    group = outcome.evidence.get("skill_group")
    names, code = distinct_texts(found)
    if group is not None and len(names) > MOST_SOURCES:
        what, (names, code) = "group of skills", distinct_texts(group)
    kept = np.isin(outcome.considered, outcome.rows)
    parts = []
    for name, mask in by_source(code, names, SAID_SOURCES):
        before = format_percent(int(mask.sum()), len(code))
        after = format_percent(int((mask & kept).sum()), len(outcome.rows))
        shown = name.replace("smaller sources", "others")
        shown = shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"
        parts.append(f"{shown} {before} → {after}")
    return f"By {what}, considered → kept: {', '.join(parts)}." if len(parts) > 1 else ""


def loss_line(outcome: Outcome) -> str:
    """The median losses of the kept rows and of all rows of the method; "" if there are none."""
    described = []
    at = np.flatnonzero(np.isin(outcome.considered, outcome.rows))
    for name, words in LOSSES.items():
        values = outcome.evidence.get(name)
        if values is None or np.isnan(values[at]).all():
            continue
        described.append(
            f"{words} {np.nanmedian(values):.3f} in the pool, {np.nanmedian(values[at]):.3f} kept"
        )
    return f"Median {'; '.join(described)}." if described else ""


def saving_line(outcome: Outcome, pool: Pool, request: RunRequest) -> str:
    """The time for selecting, the time it saves in each epoch, and when that pays off.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        request: of the run.
    """
    from thresher.selection.saving import Saving, asks_model

    recipe = outcome.recipe
    row = None
    if recipe.identity is None or not recipe.identity.served:
        costs = [
            s.cost / s.needed
            for s in outcome.signals
            if s.name == "answer_loss" and s.needed and s.cost > 0
        ]
        row = costs[0] if costs else None
    named = recipe.identity is not None or bool(recipe.roles)
    asked = named and bool(outcome.signals or outcome.trainings or asks_model(request.to_mapping()))
    measured = all(s.cost > 0 for s in outcome.signals if s.needed)
    selecting = outcome.cost if measured and outcome.signals else None
    return Saving(len(pool), len(outcome.rows), selecting, row, model=asked).sentence()


def summary_lines(outcome: Outcome, pool: Pool, request: RunRequest) -> list[str]:
    """Some five sentences about a selection, the headline first.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        request: of the run.
    """
    what = request.method + "".join(f" {key}={value}" for key, value in request.settings.items())
    lines = (
        kept_line(pool, outcome.rows, f"{what}, seed {request.seed}"),
        cost_line(outcome),
        sources_line(pool, outcome.rows),
        skills_line(outcome),
        loss_line(outcome),
        saving_line(outcome, pool, request),
    )
    return [line for line in lines if line]


def show(outcome: Outcome, pool: Pool, request: RunRequest, folder: Path) -> None:
    """Print the summary of a selection that was written to `folder`: some five lines, then the
    notes.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        request: of the run.
        folder: that it was written to.
    """
    from rich.markup import escape

    from thresher.selection.result import LEFT_OUT

    console = stdout()
    n = len(pool)
    headline, *lines = summary_lines(outcome, pool, request)
    kept, _, rest = headline.partition(" (")
    say(console, f"[bold]{kept}[/bold] ({escape(rest)}")
    for line in lines:
        say(console, line, markup=False)
    files = [name for name in FILES if (folder / name).exists()]
    say(console, f"Written to [bold]{escape(str(folder))}[/bold]: {', '.join(files)}")
    left_out = f"{outcome.excluded:,} of {n:,} rows could not be used and were left out"
    notes = [f"Note: {note.spelled(as_flag)}" for note in outcome.notes if note.kind != LEFT_OUT]
    if outcome.failures:
        notes += [
            f"Note: {left_out}:",
            *failure_lines(outcome.failures),
            (f"  All of them: {folder / 'failures.jsonl'}"),
        ]
    for line in notes:
        say(console, line, markup=False)


def failure_lines(failures: list[Failure]) -> list[str]:
    """Left-out rows by reason: how many, and the first three."""
    lines = []
    kinds = failure_kinds(failures)
    for kind in kinds[:5]:
        first = ", ".join(f"row {f.row} (id {f.id or 'none'})" for f in kind[:3]) + (
            ", ..." if len(kind) > 3 else ""
        )
        lines.append(f"  {len(kind):,} x {kind[0].error} [{first}]")
    if len(kinds) > 5:
        lines.append(f"  {sum(map(len, kinds[5:])):,} x {len(kinds) - 5} other reasons")
    return lines
