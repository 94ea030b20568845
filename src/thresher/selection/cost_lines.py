"""What the signals of a selection cost, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from os.path import commonprefix
from typing import TYPE_CHECKING

from thresher.console.formatting import format_duration, pluralize

if TYPE_CHECKING:
    from thresher.engine import SignalRun
    from thresher.selection.result import Outcome

FEW = 3  # signals of one kind that get a line each
MOST_COSTS = 4  # costs that are listed one by one


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
