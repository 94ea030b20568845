"""A run with a tracker: what is sent, what happens if the tracker fails, and what is refused."""

from __future__ import annotations

import pytest

from tests.tracking.recording_tracker import RecordingTracker
from thresher.console.progress import LineProgress
from thresher.errors import MissingExtra, TrackerError, spelled
from thresher.request.spelling import as_flag
from thresher.tracking import Table, Tracking, require_tracker, session, tracked
from thresher.tracking.progress import EVERY, TrackedProgress


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> RecordingTracker:
    tracker = RecordingTracker()
    monkeypatch.setattr(session, "open_tracker", lambda track, run: tracker)
    return tracker


def test_settings_are_flat_and_without_none(recorder: RecordingTracker) -> None:
    given = {"model": "demo", "rounds": None, "quota": ["a=1", "b=2"], "settings": {"keep": "0.3"}}
    with tracked("wandb", "a run", given, print):
        pass
    assert recorder.asked.pop("thresher")
    assert recorder.asked == {"model": "demo", "quota": "a=1, b=2", "settings.keep": "0.3"}
    assert recorder.ended == [False]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_run_is_marked_as_failed(
    recorder: RecordingTracker, error: type[BaseException]
) -> None:
    with pytest.raises(error), tracked("wandb", "a run", {}, print):
        raise error
    assert recorder.ended == [True]


@pytest.mark.parametrize("breaks", ["settings", "log", "summary", "table", "text", "close"])
def test_a_tracker_that_fails_is_noted_once_and_the_run_goes_on(breaks: str) -> None:
    tracker, notes = RecordingTracker(breaks), []
    tracking = Tracking(tracker, notes.append)
    for _ in range(2):
        tracking.settings({})
        tracking.log({"a/rows": 1.0}, 1)
        tracking.summary({"a": 1.0, "b": None})
        tracking.table("t", Table(("a",), ((1,),)))
        tracking.text("x", "y")
    tracking.close(failed=False)
    assert notes == [
        "the tracker failed and is not used any more in this run: RuntimeError: the server is "
        "gone. Try later."
    ]
    assert tracker.calls.count(breaks) == 1 and tracker.calls[-1] == breaks


def test_without_a_tracker_nothing_is_wrapped() -> None:
    display = LineProgress()
    with tracked(None, "a run", {"model": "demo"}, print) as tracking:
        assert tracking.progress(display) is display and tracking.progress(None) is None
        tracking.summary({"a": 1.0})


def test_a_missing_package_is_one_sentence_with_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thresher.extras._importable", lambda name: False)
    for track in ("wandb", "mlflow", "tensorboard"):
        with pytest.raises(MissingExtra) as error:
            require_tracker(track)
        assert spelled(error.value.message, as_flag) == (
            f"--track {track} needs {track}, which is not installed: "
            f'pip install "thresher[{track}]"'
        )
    require_tracker(None)


def test_a_tracker_that_cannot_begin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(track: str) -> None:
        raise PermissionError("no login")

    monkeypatch.setattr(session, "_tracker_class", broken)
    monkeypatch.setattr(session, "require_tracker", lambda track: None)
    with pytest.raises(TrackerError) as error:
        session.open_tracker("wandb", "a run")
    assert error.value.spelled(as_flag).startswith(
        "--track wandb could not begin a run: PermissionError: no login."
    )
    assert error.value.exit_code == 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rows_are_logged_at_intervals_and_measures_at_once() -> None:
    tracker, clock = RecordingTracker(), Clock()
    progress = TrackedProgress(tracker.log, clock=clock)
    progress.start("loss", 100, 20)
    for second in range(1, 13):
        clock.now = float(second)
        progress.advance(5)
        if second == 3:
            progress.measure("failed", 2)
    progress.finish()
    assert EVERY == 5.0
    assert tracker.values("loss/rows") == [(20, 20), (45, 45), (70, 70), (80, 80)]
    assert tracker.values("loss/failed") == [(35, 2)]
    assert {value for _, value in tracker.values("loss/rows_per_second")} == {5.0}


def test_a_task_that_is_done_again_continues_the_axis() -> None:
    tracker = RecordingTracker()
    progress = TrackedProgress(tracker.log)
    for total, done, worked in ((10, 0, 4), (10, 4, 6), (10, 0, 10), (6, 0, 6)):
        progress.start("training", total, done)  # two parts of one task, then two more tasks
        progress.advance(worked)
        progress.finish()
    steps = [step for step, _ in tracker.values("training/rows")]
    assert steps == sorted(steps) and steps[-1] == 10 + 10 + 6
    assert steps.count(4) == 2  # the second part begins where the first one ended


def test_progress_is_displayed_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    for wrap in (False, True):
        display = LineProgress(clock=Clock())
        progress = TrackedProgress(RecordingTracker().log, display) if wrap else display
        progress.start("loss", 3, 1)
        progress.advance(2)
        progress.measure("failed", 1)
        progress.finish()
        progress.say("waiting")
        assert display.rows == 2
        shown = capsys.readouterr().err
        assert shown == "loss: 2 to do, 1 in the store\nloss: 2 in 0.0 s (?/s)\nwaiting\n"


def test_a_message_without_a_display_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="damaged"):
        TrackedProgress(RecordingTracker().log).say("the checkpoint is damaged")
