"""What a tracker gets of a comparison: the table of verdicts, and each method's accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.request.spelling import as_flag
from thresher.tracking import Table, Tracking

if TYPE_CHECKING:
    from thresher.compare.table import Comparison

COLUMNS = (
    *("method", "budget", "rows", "accuracy", "accuracy_low", "accuracy_high", "percent_of_full"),
    *("difference", "difference_low", "difference_high", "verdict"),
    *("seconds_selection", "seconds_training", "seconds_saved"),
)


def track_comparison(comparison: Comparison, tracking: Tracking) -> None:
    """Send a comparison to the tracker of its run.

    Arguments:
        comparison: finished.
        tracking: of the run.
    """
    tracking.table("verdicts", verdict_table(comparison))
    values = {"cells/finished": float(len(comparison.cells))}
    for line in comparison.lines:
        values[f"accuracy/{line.method} {line.budget}"] = line.mean.mean
        if line.verdict is not None:
            difference = line.verdict.difference.mean
            values[f"difference/{line.method} {line.budget}"] = difference
    tracking.summary(values)
    notes = [f"Note: {note.spelled(as_flag)}" for note in comparison.notes]
    notes += [f"Note from {text}" for text in comparison.selection_notes()]
    verdicts = [
        f"{line.method} at {line.budget}: {line.verdict.words}."
        for line in comparison.lines
        if line.verdict is not None
    ]
    tracking.text("summary", "\n\n".join([*verdicts, *notes]))


def verdict_table(comparison: Comparison) -> Table:
    """The lines of a comparison as numbers.

    Accuracies and differences from random are in points, with 95% intervals.
    """
    rows = []
    for line in comparison.lines:
        v = line.verdict
        rows.append(
            (
                line.method,
                line.budget,
                line.rows,
                line.mean.mean,
                line.mean.low,
                line.mean.high,
                line.percent_of_full,
                None if v is None else v.difference.mean,
                None if v is None else v.difference.low,
                None if v is None else v.difference.high,
                None if v is None else v.kind,
                line.seconds_selection,
                line.seconds_training,
                line.seconds_saved,
            )
        )
    return Table(COLUMNS, tuple(rows))
