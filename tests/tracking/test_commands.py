"""What select, train, compare, evaluate and suspects send to a tracker."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import thresher
from tests.text_pools import record, write_pool
from tests.tiny_models import build
from tests.tracking.recording_tracker import RecordingTracker
from tests.training.colour_pools import pool_of
from tests.training.colour_pools import record as coloured
from thresher import cli
from thresher.compare.table import Comparison, Line
from thresher.compare.tracked import track_comparison
from thresher.evaluation.report import summarise
from thresher.evaluation.tracked import MOST, track_evaluation
from thresher.selection.folder import read
from thresher.stats.verdict import Interval, Verdict
from thresher.tracking import Tracking, session
from thresher.types import Note


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RecordingTracker]:
    """A tracker for each run that is begun; their names are in `asked["run"]`."""
    opened: list[RecordingTracker] = []

    def open_tracker(track: str, run: str) -> RecordingTracker:
        tracker = RecordingTracker()
        tracker.asked |= {"tracker": track, "run": run}
        opened.append(tracker)
        return tracker

    monkeypatch.setattr(session, "open_tracker", open_tracker)
    monkeypatch.setattr("thresher.extras._importable", lambda name: True)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return opened


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return int(ended.value.code or 0)


def assert_documented(names: Iterable[str]) -> None:
    """Every number at the end of a run is in the table of docs/tracking.md."""
    text = (Path(__file__).parents[2] / "docs/tracking.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def with_a_lost_image(folder: Path) -> Path:
    """Forty rows, one of whose images is not there when it is scored."""
    records: list[dict[str, Any]] = [coloured(i) for i in range(40)]
    pool_of(folder, records)
    (folder / "torn.png").write_bytes(b"not an image")
    records[5]["image"] = "torn.png"
    return write_pool(folder / "pool.json", records)


def test_select_logs_progress_failures_counts_and_summary(
    recorders: list[RecordingTracker], tmp_path: Path
) -> None:
    pool = with_a_lost_image(tmp_path)
    asked = ["-m", "perplexity", "-b", "25%", "--model", "demo", "--track", "mlflow"]
    assert run("select", pool, *asked, "-o", "out25") == 0
    (tracker,) = recorders
    assert tracker.asked["tracker"] == "mlflow" and tracker.asked["run"] == "out25"
    assert tracker.asked["method"] == "perplexity" and tracker.asked["budget"] == "25%"
    rows = tracker.values("loss/rows")
    assert rows[0] == (0, 0) and rows[-1] == (40, 40)
    assert tracker.values("loss/failed")[-1][1] == 1
    written = read(tmp_path / "out25")
    for name, value in written["counts"].items():
        assert tracker.numbers[f"counts/{name}"] == value
    assert tracker.numbers["counts/selected"] == 10 and tracker.numbers["counts/left_out"] == 1
    table = tracker.tables["signals"]
    assert [dict(zip(table.columns, r, strict=True))["failed"] for r in table.rows] == [1]
    assert sum(int(str(r[2])) for r in tracker.tables["sources"].rows) == 10
    assert tracker.texts["summary"].startswith("Kept 10 of 40 rows (25")
    assert tracker.ended == [False]
    # a repeated run is tracked, too, and its request is the same one
    assert run("select", "--config", "out25/run.yaml", "--track", "wandb", "-o", "out25") == 0
    assert [t.asked["tracker"] for t in recorders] == ["mlflow", "wandb"]


def test_a_failed_selection_is_marked(recorders: list[RecordingTracker], tmp_path: Path) -> None:
    pool = with_a_lost_image(tmp_path)
    asked = ["-m", "perplexity", "-b", "25%", "--model", "demo", "--on-missing", "refuse"]
    assert run("select", pool, *asked, "--track", "wandb", "-o", "out") == 1
    assert [t.ended for t in recorders] == [[True]]


def test_the_python_api_tracks(recorders: list[RecordingTracker], tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool.json", [record(i) for i in range(30)])
    thresher.select(pool, "random", "20%", track="tensorboard")
    thresher.select(pool, "random", "20%")
    (tracker,) = recorders
    assert tracker.asked["run"] == "random" and tracker.numbers["counts/selected"] == 6


def test_train_logs_the_loss_of_every_step(
    recorders: list[RecordingTracker], tmp_path: Path
) -> None:
    pool_of(tmp_path, [coloured(i) for i in range(10)])
    words = ["--model", build("llava"), "--batch", "5", "--epochs", "2", "--device", "cpu"]
    assert run("train", "pool.json", *words, "--track", "wandb", "-o", "m") == 0
    (tracker,) = recorders
    losses = tracker.values("training/loss")
    assert [step for step, _ in losses] == [5, 10, 15, 20]
    assert tracker.numbers["counts/steps"] == 4 and tracker.numbers["counts/rows"] == 10
    assert tracker.numbers["loss/end"] == pytest.approx(losses[-1][1])
    assert tracker.asked["recipe.epochs"] == 2.0


def test_evaluate_logs_accuracies_by_group_and_failures(
    recorders: list[RecordingTracker], tmp_path: Path
) -> None:
    test = with_a_lost_image(tmp_path)
    asked = ["--data", test, "--model", "demo", "--by", "id", "--track", "mlflow"]
    assert run("evaluate", *asked, "-o", "results.json") == 0
    (tracker,) = recorders
    assert tracker.asked["run"] == "results" and tracker.asked["data"] == str(test)
    assert tracker.asked["score"] == "auto" and tracker.asked["by"] == "id"
    assert "method" not in tracker.asked  # an option of other commands
    written = json.loads((tmp_path / "results.json").read_text())
    for name in ("accuracy", "macro", "anls", "relaxed"):
        assert tracker.numbers[name] == written[name]
    assert [tracker.numbers["accuracy_low"], tracker.numbers["accuracy_high"]] == written[
        "interval"
    ]
    counts = {k: v for k, v in tracker.numbers.items() if k.startswith("counts/")}
    assert counts == {
        "counts/rows": 39, "counts/failed": 1, "counts/cut": written["cut"], "counts/asked": 40,
        "counts/choice": 8, "counts/generate": 31,
    }  # fmt: skip
    assert_documented(n for n in tracker.numbers if not n.startswith("accuracy/"))
    groups = tracker.tables["groups"]
    assert {str(r[0]): r[2] for r in groups.rows} == {
        name: group["accuracy"] for name, group in written["by"].items()
    }
    assert all(tracker.numbers[f"accuracy/{name}"] is not None for name in written["by"])
    ((reason, rows),) = tracker.tables["failures"].rows
    assert str(reason).startswith("not-an-image: ") and rows == 1
    assert tracker.values("choice/rows")[-1] == (8, 8)
    assert tracker.values("generate/rows")[-1] == (32, 32)
    assert tracker.ended == [False]
    # without a file the run has the command's name; a failed evaluation is marked
    assert run("evaluate", *asked, "--on-missing", "refuse") == 1
    assert recorders[1].asked["run"] == "evaluate" and recorders[1].ended == [True]


def test_many_groups_have_no_numbers_of_their_own() -> None:
    n = MOST + 20
    rows = pa.table(
        {
            "group": [f"g{i % n:03}" for i in range(n + 5)],
            "scored": ["generate"] * (n + 5),
            "error": [""] * (n + 5),
            "correct": [True] * (n + 5),
            "anls": [1.0] * (n + 5),
            "relaxed": [True] * (n + 5),
        }
    )
    found = summarise(rows, np.arange(n + 5), cut=0, asked=0, seconds=1.0, about={})
    tracker = RecordingTracker()
    track_evaluation(found, Tracking(tracker, pytest.fail))
    named = [k for k in tracker.numbers if k.startswith("accuracy/")]
    assert named == [f"accuracy/g{i:03}" for i in range(MOST)]  # five of two rows, then by name
    assert len(tracker.tables["groups"].rows) == n and "failures" not in tracker.tables


def test_suspects_logs_the_numbers_and_the_share_of_each_skill(
    recorders: list[RecordingTracker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = with_a_lost_image(tmp_path)
    asked = ["--model", "demo", "--threshold", "0", "--limit", "5", "--leaves", "3", "--answers"]
    assert run("suspects", pool, *asked, "--json", "--track", "wandb", "-o", "list.jsonl") == 0
    printed = json.loads(capsys.readouterr().out)
    (tracker,) = recorders
    assert tracker.asked["run"] == "list" and tracker.asked["threshold"] == 0.0
    same = [row["same"] for row in printed["suspects"]]
    assert tracker.numbers == {
        "counts/rows": 40, "counts/judged": 39, "counts/failed": 1, "counts/suspected": 39,
        "counts/listed": 5, "counts/skills": printed["skills"], "share/suspected": 1.0,
        "share/same_answer": sum(same) / 5,
        "expected_wrong": pytest.approx(printed["expected_wrong"], abs=0.06),
    }  # fmt: skip
    assert_documented(tracker.numbers)
    skills = tracker.tables["skills"]
    assert len(skills.rows) == printed["skills"]
    lines = [dict(zip(skills.columns, r, strict=True)) for r in skills.rows]
    assert sum(int(str(line["judged"])) for line in lines) == 39
    assert all(line["suspected"] == line["judged"] and line["share"] == 1 for line in lines)
    assert {row["skill"]: row["skill_words"] for row in printed["suspects"]}.items() <= {
        line["skill"]: line["words"] for line in lines
    }.items()
    assert tracker.texts["summary"].startswith("Note: 1 of 40 rows could not be scored")
    assert tracker.values("loss/rows")[-1] == (40, 40)
    assert tracker.values("answers/rows")[-1] == (5, 5) and tracker.ended == [False]


def test_another_tracker_is_refused(
    recorders: list[RecordingTracker], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in (
        ["select", "no.json", "-b", "3"],
        ["train", "no.json"],
        ["evaluate", "--data", "no.json"],
        ["suspects", "no.json"],
    ):
        assert run(*command, "--track", "wanbd", "-o", "out") == 2
        assert "expected one of wandb, mlflow, tensorboard. Did you mean 'wandb'?" in (
            capsys.readouterr().err
        )
    assert not recorders


def test_a_comparison_is_a_table_of_verdicts() -> None:
    mean = Interval(61.5, 1.5)
    random = Interval(59.5, 1.5)
    verdict = Verdict("beats", "beats random by 2.0 points", Interval(2.0, 1.5), mean, random, 80.0)
    lines = [
        Line("random", "10%", 30, random, None, None, 0.0, 3.0, None),
        Line("winnow", "10%", 30, mean, 80.0, verdict, 5.0, 3.0, 20.0),
    ]
    tracker = RecordingTracker()
    comparison = Comparison([], lines, [Note("comparison", "one seed")], {})
    track_comparison(comparison, Tracking(tracker, pytest.fail))
    table = tracker.tables["verdicts"]
    first, second = (dict(zip(table.columns, r, strict=True)) for r in table.rows)
    assert first["method"] == "random" and first["verdict"] is None
    assert second == {
        "method": "winnow", "budget": "10%", "rows": 30, "accuracy": 61.5, "accuracy_low": 60.0,
        "accuracy_high": 63.0, "percent_of_full": 80.0, "difference": 2.0, "difference_low": 0.5,
        "difference_high": 3.5, "verdict": "beats", "seconds_selection": 5.0,
        "seconds_training": 3.0, "seconds_saved": 20.0,
    }  # fmt: skip
    assert tracker.numbers["accuracy/winnow 10%"] == 61.5
    assert tracker.numbers["difference/winnow 10%"] == 2.0
    assert "winnow at 10%: beats random by 2.0 points." in tracker.texts["summary"]
    assert "Note: one seed" in tracker.texts["summary"]
