"""What a tracker gets of a finished selection: counts, scores by signal, sources, and the summary
that is printed. No row's content is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.request.spelling import as_flag
from thresher.selection.groups import by_source
from thresher.selection.record import counts
from thresher.selection.summary import summary_lines
from thresher.tracking import Table, Tracking

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.request import RunRequest
    from thresher.selection.result import Outcome


def track_selection(outcome: Outcome, pool: Pool, request: RunRequest, tracking: Tracking) -> None:
    """Send a selection to the tracker of its run.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
        request: of the run.
        tracking: of the run.
    """
    if not tracking.active:
        return
    tracking.summary(
        {f"counts/{name}": value for name, value in counts(outcome, pool).items()}
        | {"seconds/selecting": outcome.cost}
    )
    if outcome.signals:
        tracking.table("signals", signal_table(outcome))
    tracking.table("sources", source_table(outcome, pool))
    lines = summary_lines(outcome, pool, request)
    lines += [f"Note: {note.spelled(as_flag)}" for note in outcome.notes]
    tracking.text("summary", "\n\n".join(lines))


def signal_table(outcome: Outcome) -> Table:
    """How many scores each signal needed, and what became of them."""
    columns = ("signal", "needed", "scored", "elsewhere", "reused", "failed", "seconds")
    return Table(
        columns,
        tuple(
            (s.label, s.needed, s.scored, s.elsewhere, s.reused, s.failed, round(s.seconds, 3))
            for s in outcome.signals
        ),
    )


def source_table(outcome: Outcome, pool: Pool) -> Table:
    """Rows of each source in the pool and in the selection, largest first.

    Arguments:
        outcome: the selection.
        pool: that it was made from.
    """
    kept = np.zeros(len(pool), bool)
    kept[outcome.rows] = True
    return Table(
        ("source", "pool", "selected"),
        tuple(
            (name, int(mask.sum()), int((mask & kept).sum()))
            for name, mask in by_source(pool.source, pool.source_names)
        ),
    )
