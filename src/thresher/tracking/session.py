"""A run and its tracker: opened before the work, closed after it. A tracker that fails on the way
is reported once and not used any more; the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from thresher._version import __version__
from thresher.console.progress import Progress
from thresher.errors import TrackerError, opt
from thresher.extras import require
from thresher.request import Track
from thresher.tracking.progress import TrackedProgress
from thresher.tracking.tracker import Table, Tracker, Value


def require_tracker(track: Track | None) -> None:
    """Raise MissingExtra if the package of a tracker is not installed. None: no tracker."""
    if track is not None:
        require(track, opt("track", track))


def open_tracker(track: Track, run: str) -> Tracker:
    """Begin a run in a tracker.

    Arguments:
        track: the tracker.
        run: name of the run.

    Raises MissingExtra, and TrackerError with the reason of the tracker's package.
    """
    require_tracker(track)
    try:
        return _tracker_class(track)(run)
    except Exception as e:
        raise TrackerError(
            f" could not begin a run: {_reason(e)}. Nothing was started; without this option the "
            "command runs without a tracker.",
            option="track",
            value=track,
        ) from e


def _tracker_class(track: Track) -> Callable[[str], Tracker]:
    """What begins a run of a name; its package is imported here."""
    if track == "wandb":
        from thresher.tracking.to_wandb import WandbTracker

        return WandbTracker
    if track == "mlflow":
        from thresher.tracking.to_mlflow import MlflowTracker

        return MlflowTracker
    from thresher.tracking.to_tensorboard import TensorboardTracker

    return TensorboardTracker


class Tracking:
    """A run with a tracker, or without one: then all methods do nothing.

    Arguments:
        tracker: of the run; None: none.
        say: shows a note to the user, once, if the tracker fails.
    """

    def __init__(self, tracker: Tracker | None, say: Callable[[str], None]) -> None:
        self._tracker, self._say = tracker, say

    @property
    def active(self) -> bool:
        """Whether there is a tracker."""
        return self._tracker is not None

    def progress(self, display: Progress | None) -> Progress | None:
        """Progress that is displayed as before and tracked.

        Arguments:
            display: shows the progress to the user; None: no display.
        """
        return display if self._tracker is None else TrackedProgress(self.log, display)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Settings of the run; nested ones as `name.key`, None is left out."""
        flat: dict[str, Value] = {"thresher": __version__}
        for name, value in values.items():
            if isinstance(value, Mapping):
                flat |= {f"{name}.{key}": _plain(v) for key, v in value.items()}
            elif value is not None:
                flat[name] = _plain(value)
        self._send(lambda tracker: tracker.settings(flat))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """As `Tracker.log`.

        Arguments:
            values: by name.
            step: position on the x axis.
        """
        self._send(lambda tracker: tracker.log(values, step))

    def summary(self, values: Mapping[str, float | None]) -> None:
        """As `Tracker.summary`; None is left out."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        self._send(lambda tracker: tracker.summary(known))

    def table(self, name: str, table: Table) -> None:
        """As `Tracker.table`.

        Arguments:
            name: of the table.
            table: its content.
        """
        self._send(lambda tracker: tracker.table(name, table))

    def text(self, name: str, text: str) -> None:
        """As `Tracker.text`.

        Arguments:
            name: of the text.
            text: Markdown.
        """
        self._send(lambda tracker: tracker.text(name, text))

    def close(self, failed: bool) -> None:
        """End the run. `failed`: by an error or an interruption."""
        self._send(lambda tracker: tracker.close(failed))
        self._tracker = None

    def _send(self, call: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as e:  # noqa: BLE001 - whatever a tracker's package raises
            self._tracker = None
            self._say(f"the tracker failed and is not used any more in this run: {_reason(e)}.")


@contextmanager
def tracked(
    track: Track | None, run: str, settings: Mapping[str, Any], say: Callable[[str], None]
) -> Iterator[Tracking]:
    """A run in a tracker, ended with the block; an exception of the block marks it as failed.

    Arguments:
        track: the tracker; None: none.
        run: name of the run.
        settings: what the run was asked for, by option.
        say: shows a note to the user.
    """
    tracking = Tracking(None if track is None else open_tracker(track, run), say)
    tracking.settings(settings)
    try:
        yield tracking
    except BaseException:
        tracking.close(failed=True)
        raise
    tracking.close(failed=False)


def _plain(value: Any) -> Value:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value)
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _reason(error: Exception) -> str:
    """One line about an error of a tracker's package."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
