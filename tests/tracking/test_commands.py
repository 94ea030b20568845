"""What select, train and compare send to a tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def test_another_tracker_is_refused(
    recorders: list[RecordingTracker], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in (["select", "no.json", "-b", "3"], ["train", "no.json"]):
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
