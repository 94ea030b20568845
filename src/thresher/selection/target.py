"""The target set of a selection: its columns, and the checks on it before anything is scored.

A method may use a second set of rows, a validation set. Its columns are computed as the pool's are
(same store, same models, same rules for rows that fail), and before them, because they are few.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import pluralize
from thresher.console.progress import BarProgress, LineProgress, stderr_progress
from thresher.engine import ColumnEngine, RunContext, SignalRun, commonest, create_engine
from thresher.engine.graph import target_signals_of
from thresher.errors import ConfigError, PoolError, TooManyFailures, opt
from thresher.selection.task import SelectionTask
from thresher.types import Columns, Method

if TYPE_CHECKING:
    from thresher.console.progress import Progress
    from thresher.pools import Pool
    from thresher.request import OnLeak

SHOWN = 3  # examples in a message


@dataclass(frozen=True)
class TargetSet:
    """The validation set of a method."""

    pool: Pool
    engine: ColumnEngine
    columns: Columns

    @property
    def runs(self) -> list[SignalRun]:
        """What the target's signals cost, with labels that distinguish them from the pool's."""
        return [replace(r, label=f"validation {r.label}") for r in self.engine.runs]

    @property
    def notes(self) -> list[str]:
        failed = self.engine.eligible.failed
        if not failed:
            return []
        reasons = Counter(error for f in failed for error in f.errors)
        n = len(self.pool)
        return [
            f"{reasons.total():,} of {n:,} validation rows could not be used and were left out: "
            f"{commonest(reasons)}."
        ]


def needs_target(method: Method, context: RunContext) -> bool:
    """Whether the method uses a target set with these settings.

    Arguments:
        method: with its settings.
        context: the models.
    """
    return bool(target_signals_of(method, context, 0))


def check(method: Method, target: object, context: RunContext) -> bool:
    """Whether a target set is used. Raises ConfigError if one is needed and not given.

    Arguments:
        method: with its settings.
        target: the target set; None: not given.
        context: the models.
    """
    needs = needs_target(method, context)
    if needs and target is None:
        raise ConfigError(
            f" looks for what the model gets wrong on a validation set of "
            f"the target task: give one with {opt('validation')} (and {opt('validation_images')}).",
            option="method",
            value=method.name,
        )
    return needs


def aim(task: SelectionTask, context: RunContext) -> TargetSet | None:
    """Compute the target's columns; None if the method uses no target set. Raises as
    `select.select`.

    Arguments:
        task: what to select, and from what.
        context: store and models.
    """
    method, target = task.method, task.target
    if not check(method, target, context):
        return None
    assert target is not None
    signals = target_signals_of(method, context, task.request.seed)
    try:
        engine = (context.new_engine or create_engine)(target, signals, task.request, context)
        found = engine.columns(signals)
    except TooManyFailures as e:  # counts rows of the validation set
        raise TooManyFailures(f"Of the validation set {Path(target.path)}, {e.message}") from e
    engine.close()  # the pool's engine opens its own models
    values = {**found.values, "row": {"row": engine.eligible.pool_rows}}
    columns = Columns(found.digest, found.ties, found.source, found.source_names, values)
    return TargetSet(target, engine, columns)


def leaks(
    pool: Pool,
    target: Pool,
    on_leak: OnLeak,
    progress: Progress | None = None,
    *,
    names: tuple[str, str] = ("pool", "validation"),
    instead: str = f", or give {opt('on_leak', 'drop')}",
    near: bool | None = True,
) -> tuple[np.ndarray, str]:
    """Rows of the pool that repeat a question of the target, and a note about them and about rows
    that could not be compared.

    Arguments:
        pool, target: the rows to train on, and those to evaluate on.
        on_leak: "refuse" raises PoolError where there are any; "drop" returns them.
        progress: displays the rows compared.
        names: names of the two in the message.
        instead: an alternative for the user.
        near: as in `find_contamination`.

    Returns int64 [d] and the note, "" if there is nothing to say.
    """
    from thresher.duplicates import check_contamination, unchecked_note

    # rows read here are not stored, so they must not count among the stored rows that an
    # interrupted run reports
    shown = stderr_progress() if isinstance(progress, (BarProgress, LineProgress)) else progress
    checked = check_contamination(pool, target, near=near, progress=shown)
    found = checked.found
    what, of = names
    where = Path(target.path)
    unchecked = (
        unchecked_note(checked.unchecked, len(pool), f"the {what}"),
        unchecked_note(checked.other_unchecked, len(target), f"the {of} set {where}"),
    )
    if not found:
        return np.zeros(0, np.int64), " ".join(filter(None, unchecked))
    kinds = Counter(leak.kind for leak in found)
    how = ", ".join(f"{kinds[k]:,} {k}" for k in sorted(kinds, key=lambda k: (-kinds[k], k)))
    repeat = "repeats" if len(found) == 1 else "repeat"
    examples = "; ".join(
        f"row {k.row} repeats {of} row {k.other_row} ({k.kind})" for k in found[:SHOWN]
    )
    if len(found) > SHOWN:
        examples += "; …"
    if on_leak == "refuse":
        raise PoolError(
            f"{pluralize(len(found))} of the {what} {repeat} questions of the {of} set {where} "
            f"({how}): {examples}. Remove them from one of the two{instead}."
        )
    rows = np.unique(np.array([leak.row for leak in found], np.int64))
    if len(rows) == len(pool):
        raise PoolError(
            f"All rows of the pool repeat questions of the {of} set {where} ({how}): nothing is "
            f"left to choose from. Was the pool itself given as the {of} set? Give other "
            "questions."
        )
    dropped = (
        f"{pluralize(len(found))} of the pool {repeat} questions of the {of} set and "
        f"{'was' if len(found) == 1 else 'were'} dropped ({how})."
    )
    return rows, " ".join(filter(None, (dropped, *unchecked)))
