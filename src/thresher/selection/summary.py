"""What is printed after a selection: what was kept, what it cost, what failed, and how the subset
compares with the pool.

Pure arithmetic first (`lengths`, `by_source`, `failure_kinds`), printing last, on stdout.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import format_duration, format_percent, pluralize
from thresher.request.spelling import as_flag
from thresher.stats.distinct import distinct_texts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from thresher.engine import SignalRun
    from thresher.pools import Pool
    from thresher.request import RunRequest
    from thresher.selection.result import Failure, Outcome

LENGTHS = (
    (1, "at most 1 word"),
    (5, "2-5 words"),
    (20, "6-20 words"),
    (100, "21-100 words"),
    (2**31, "over 100 words"),
)
MOST_SOURCES = 12
SAID_SOURCES = 4  # in the line about sources
LONGEST_NAME = 40  # characters of a source's name there
FEW = 3  # signals of one kind that get a line each
MOST_COSTS = 4  # costs that are listed one by one
NARROW = 72  # columns of a terminal below which tables omit optional columns
MOST_COLUMNS = 110  # of a paragraph: longer lines are hard to read
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
_COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LOSSES = {"nll": "log-perplexity", "nll_one_shot": "after a demonstration"}


# --------------------------------------------------------------------------------------- arithmetic


def lengths(words: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Answer lengths [n] in words -> (name, mask [n]) of the classes that occur, shortest first."""
    out, low = [], 0
    for high, name in LENGTHS:
        mask = (words >= low) & (words <= high)
        if mask.any():
            out.append((name, mask))
        low = high + 1
    return out


def by_source(
    source: np.ndarray,
    names: tuple[str, ...],
    most: int = MOST_SOURCES,
    others: str = "smaller sources",
) -> list[tuple[str, np.ndarray]]:
    """(name, mask [n]) of each source, largest first. Beyond `most`, the small ones are combined
    and named by their number and `others`.

    Arguments:
        source: int32 [n], index into `names`.
        names: of the sources.
        most: maximum number of sources that are named.
        others: the noun for the rest.
    """
    counts = np.bincount(source, minlength=len(names))
    ranked = [i for i in np.lexsort((np.arange(len(names)), -counts)).tolist() if counts[i]]
    listed = ranked if len(ranked) <= most else ranked[: most - 1]
    out = [(names[i] or "(none)", source == i) for i in listed]
    if len(listed) < len(ranked):
        out.append((f"{len(ranked) - len(listed):,} {others}", ~np.isin(source, listed)))
    return out


def failure_kinds(failures: list[Failure]) -> list[list[Failure]]:
    """Failures that differ in a path or number only, together; most frequent first, each in pool
    order."""
    from thresher.engine.eligible import without_names

    kinds: dict[tuple[str, str], list[Failure]] = defaultdict(list)
    for failure in failures:
        kinds[failure.signal, without_names(failure.error)].append(failure)
    return [kinds[k] for k in sorted(kinds, key=lambda k: (-len(kinds[k]), k))]


# ----------------------------------------------------------------------------------------- printing


def stdout() -> Console:
    """A console for results. Lines written to a pipe or file are not wrapped."""
    import sys

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def say(console: Console, text: str, *, markup: bool = True) -> None:
    """Print a line of a result, wrapped between words on a terminal only.

    A word that is longer than the terminal, such as a path, is left to the terminal.

    Arguments:
        console: where it is printed.
        text: the line.
        markup: whether `text` contains rich's markup.
    """
    import textwrap

    from rich.text import Text

    text = plain(text)
    whole = Text.from_markup(text) if markup else Text(text)
    cuts: list[int] = []
    if console.file.isatty():
        width, at = min(console.width, MOST_COLUMNS), 0
        for line in textwrap.wrap(
            whole.plain,
            width,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        ):
            cuts.append(whole.plain.index(line, at))
            at = cuts[-1] + len(line)
    for piece in whole.divide(cuts[1:]):
        piece.rstrip()
        console.print(piece, soft_wrap=True)


def plain(text: str) -> str:
    """Text that is safe for a terminal: control characters other than line ends, and bidi
    overrides, become �.

    >>> plain("red\x1b[31m\u202e")
    'red�[31m�'
    """
    return _COMMANDS.sub("\ufffd", text)


def table(*columns: str, numbers: bool = True) -> Table:
    """A plain table; with `numbers`, all columns but the first are aligned to the right.

    Arguments:
        numbers: whether all columns but the first are aligned to the right.
        columns: the headers.
    """
    from rich import box
    from rich.table import Table

    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    for i, name in enumerate(columns):
        out.add_column(name, justify="right" if numbers and i else "left", overflow="fold")
    return out


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


def skill_labels(reasons: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The skill of each row in words, [n] texts; None if the reasons hold none."""
    for name in ("skill", "skill_words"):
        values = reasons.get(name)
        if values is not None and values.dtype.kind in "OU":
            return values
    return None


def cost_lines(outcome: Outcome) -> list[str]:
    """What each signal cost: "answer_loss: 38,575 needed, 0 scored, 38,575 reused". Exact
    duplicates count once."""
    lines = [
        f"{t.label}: a model was trained on {pluralize(t.rows)}, {format_duration(t.seconds)}"
        for t in outcome.trainings
    ]
    asked = [s for s in outcome.signals if s.needed]  # without those that no row needed
    for same in _alike(asked or outcome.signals):
        s = same[0]
        unasked = outcome.unasked.get(s.label, 0)
        if unasked and unasked == s.needed - s.failed:
            lines.append(
                f"{s.label}: {s.needed:,} needed, none sent to the model: no demonstration was "
                "available or fitted"
            )
            continue
        name = ", ".join(families([(x.name, x.label) for x in same]))
        line = f"{name}: {s.needed:,} needed, {s.scored:,} scored, {s.reused:,} reused"
        if s.elsewhere:
            line = (
                f"{name}: {s.needed:,} needed, {s.scored:,} scored here, {s.elsewhere:,} by other "
                f"processes, {s.reused:,} reused"
            )
        if unasked:
            line += (
                f" ({unasked:,} not sent to the model: no demonstration was available or fitted)"
            )
        if s.failed:
            line += f", {s.failed:,} failed"
        if s.scored:
            line += f" ({format_duration(sum(x.seconds for x in same))})"
        lines.append(line)
    return lines


def cost_line(outcome: Outcome) -> str:
    """All of `cost_lines` in one; their totals where there are many; "" if no score was needed."""
    lines = cost_lines(outcome)
    if lines and not any(s.scored or s.elsewhere for s in outcome.signals):
        lines = lines if len(lines) <= MOST_COSTS else [f"Scores of {len(lines)} signals"]
        return f"{'; '.join(lines)}. Nothing was scored: all scores were stored already."
    if len(lines) > MOST_COSTS and not outcome.unasked:
        return _total_cost(outcome)
    return f"{'; '.join(lines)}." if lines else ""


def _total_cost(outcome: Outcome) -> str:
    """One sentence about all signals and models of a run."""
    signals, trainings = outcome.signals, outcome.trainings
    here, elsewhere, reused, failed = (
        sum(getattr(s, name) for s in signals)
        for name in ("scored", "elsewhere", "reused", "failed")
    )
    parts = [f"{here:,} scored in {format_duration(sum(s.seconds for s in signals))}"]
    parts += [f"{elsewhere:,} by other processes"] if elsewhere else []
    parts += [f"{reused:,} reused"]
    parts += [f"{failed:,} failed"] if failed else []
    text = f"Scores of {pluralize(len(signals), 'signal')}: {', '.join(parts)}"
    if trainings:
        took = format_duration(sum(t.seconds for t in trainings))
        text += f"; {pluralize(len(trainings), 'model')} trained in {took}"
    return f"{text} (each in run.yaml)."


def _alike(signals: Sequence[SignalRun]) -> list[list[SignalRun]]:
    """Signals of one kind with the same counts, together where there are more than FEW of them: a
    judge's questions."""
    groups: dict[tuple[str, int, int, int, int], list[SignalRun]] = defaultdict(list)
    for s in signals:
        groups[s.name, s.needed, s.scored, s.elsewhere, s.failed].append(s)
    out = []
    for s in signals:
        group = groups[s.name, s.needed, s.scored, s.elsewhere, s.failed]
        if len(group) <= FEW:
            out.append([s])
        elif s is group[0]:
            out.append(group)
    return out


def families(named: Sequence[tuple[str, str]]) -> list[str]:
    """(kind, label) -> the labels, those of one kind by their common beginning.

    >>> families([("judge", "score_ocr"), ("judge", "score_icl"), ("written_styles", "styles")])
    ['score_* (2)', 'styles']
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for kind, label in named:
        kinds[kind].append(label)
    out = []
    for labels in kinds.values():
        # letters are meant, not folders
        begin = commonprefix(labels).rpartition("_")[0]  # noqa: RUF071
        out += [f"{begin}_* ({len(labels)})"] if begin and len(labels) > 1 else labels
    return out


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


def saving_line(outcome: Outcome, pool: Pool) -> str:
    """The time for selecting, the time it saves in each epoch, and when that pays off.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
    """
    from thresher.selection.saving import Saving

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
    asked = named and bool(outcome.signals or outcome.trainings)
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
        saving_line(outcome, pool),
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
