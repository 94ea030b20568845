"""What a tracker gets of an evaluation: accuracies with intervals, overall and by group, and why
rows failed."""

from __future__ import annotations

from collections.abc import Mapping

from thresher.evaluation.report import Evaluation, Group
from thresher.tracking import Table, Tracking

GROUP_COLUMNS = (
    *("group", "rows", "accuracy", "accuracy_low", "accuracy_high"),
    *("anls", "relaxed", "failed"),
)

MOST = 100  # groups with a number of their own; `--by` may name a field that differs in every row


def track_evaluation(found: Evaluation, tracking: Tracking) -> None:
    """Send an evaluation to the tracker of its run.

    Accuracies are from 0 to 1, as in the JSON file.

    Arguments:
        found: the results.
        tracking: of the run.
    """
    low, high = found.interval
    values: dict[str, float | None] = {
        "accuracy": found.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro": found.macro,
        "anls": found.anls,
        "relaxed": found.relaxed,
        "counts/rows": found.n,
        "counts/failed": found.failed,
        "counts/cut": found.cut,
        "counts/asked": found.asked,
        "seconds/evaluating": found.seconds,
    }
    values |= {f"counts/{name}": n for name, n in found.scored.items()}
    values |= {f"accuracy/{name}": group.accuracy for name, group in _largest_first(found)[:MOST]}
    tracking.summary(values)
    tracking.table("groups", group_table(found))
    if found.failures:
        tracking.table("failures", Table(("reason", "rows"), tuple(found.failures.most_common(20))))


def group_table(found: Evaluation) -> Table:
    """The groups, largest first; accuracies and ANLS from 0 to 1, with 95% intervals."""
    return Table(
        GROUP_COLUMNS,
        tuple(
            (name, g.n, g.accuracy, *g.interval, g.anls, g.relaxed, g.failed)
            for name, g in _largest_first(found)
        ),
    )


def _largest_first(found: Evaluation) -> list[tuple[str, Group]]:
    return sorted(found.by.items(), key=lambda item: (-item[1].n, item[0]))


def track_tasks(tasks: Mapping[str, Mapping[str, float]], tracking: Tracking) -> None:
    """Send the numbers of lmms-eval to the tracker of the run.

    Arguments:
        tasks: task -> metric -> value.
        tracking: of the run.
    """
    tracking.summary(
        {
            f"lmms_eval/{task}/{metric}": value
            for task, metrics in tasks.items()
            for metric, value in metrics.items()
        }
    )
