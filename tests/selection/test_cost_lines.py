"""The line about what a selection cost: one entry per signal, totals where there are many."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from thresher.engine import SignalRun
from thresher.selection.cost_lines import cost_line
from thresher.training.registry import TrainingRun


def outcome(*signals: SignalRun, trained: int = 0, unasked: dict[str, int] | None = None) -> Any:
    trainings = [TrainingRun(f"m{i}", "f", 50, 2.0) for i in range(trained)]
    return SimpleNamespace(signals=list(signals), trainings=trainings, unasked=unasked or {})


def run(label: str, needed: int, scored: int, **more: Any) -> SignalRun:
    return SignalRun(label, label, "f", needed, scored, more.pop("failed", 0), 1.5, **more)


def test_few_signals_are_listed_one_by_one() -> None:
    text = cost_line(outcome(run("loss", 10, 4), run("skill", 5, 5), trained=1))
    assert text == (
        "m0: a model was trained on 50 rows, 2 s; loss: 10 needed, 4 scored, 6 reused (2 s); "
        "skill: 5 needed, 5 scored, 0 reused (2 s)."
    )


def test_many_are_summed_up() -> None:
    signals = [run(f"s{i}", 10, 4) for i in range(5)]
    assert cost_line(outcome(*signals)) == (
        "Scores of 5 signals: 20 scored in 8 s, 30 reused (each in run.yaml)."
    )
    more = [*signals, run("last", 9, 2, failed=1, elsewhere=3)]
    assert cost_line(outcome(*more, trained=2)) == (
        "Scores of 6 signals: 22 scored in 9 s, 3 by other processes, 34 reused, 1 failed; 2 "
        "models trained in 4 s (each in run.yaml)."
    )


def test_rows_that_were_not_sent_to_the_model_are_always_named() -> None:
    signals = [run(f"s{i}", 10, 4) for i in range(5)]
    assert "3 not sent to the model" in cost_line(outcome(*signals, unasked={"s4": 3}))


def test_nothing_scored() -> None:
    stored = "Nothing was scored: all scores were stored already."
    assert cost_line(outcome(run("loss", 10, 0))).endswith(stored)
    assert (
        cost_line(outcome(*(run(f"s{i}", 10, 0) for i in range(6))))
        == f"Scores of 6 signals. {stored}"
    )
    assert cost_line(outcome()) == ""
