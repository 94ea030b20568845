"""Progress that is displayed and sent to a tracker: rows done, rate, and numbers of the work."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Mapping

from thresher.console.progress import Meter, NoProgress, Progress

EVERY = 5.0  # seconds between two reports of rows
Log = Callable[[Mapping[str, float], int], None]


OTHERS = re.compile(r" and \d+ more$")  # behind the first signal of a pass: no name of a metric


class TrackedProgress:
    """A `Progress` that logs `TASK/rows`, `TASK/rows_per_second` and what the task measures.

    The x axis of a task is its number of rows done. A task that is done several times, such as the
    training of each cell of a comparison, continues where the last one ended.

    Arguments:
        log: receives numbers by name, and the step.
        display: shows the progress to the user; None: no display.
        clock: returns seconds.
    """

    def __init__(
        self,
        log: Log,
        display: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._clock = log, clock
        self._silent = display is None
        self._display = display or NoProgress()
        self._label = ""
        self._meter: Meter | None = None
        self._last = 0.0
        self._tasks: dict[str, tuple[int, int, int]] = {}  # offset, total and done when it ended

    def start(self, label: str, total: int, done: int) -> None:
        self._display.start(label, total, done)
        label = OTHERS.sub("", label)
        offset, last_total, last_done = self._tasks.get(label, (0, total, done))
        if total != last_total or done < last_done:
            offset += last_done  # another task of the same name, not the rest of this one
        self._label, self._meter = label, Meter(total, done, self._clock)
        self._tasks[label] = (offset, total, done)
        self._log_rows()

    def advance(self, n: int) -> None:
        self._display.advance(n)
        if self._meter is None:
            return
        self._meter.advance(n)
        if self._clock() - self._last >= EVERY:
            self._log_rows()

    def measure(self, name: str, value: float) -> None:
        self._display.measure(name, value)
        if self._meter is not None:
            self._log({f"{self._label}/{name}": value}, self._step())

    def finish(self) -> None:
        self._display.finish()
        if self._meter is not None:
            self._log_rows()
            offset, total, _ = self._tasks[self._label]
            self._tasks[self._label] = (offset, total, self._meter.done)
            self._meter = None

    def say(self, text: str) -> None:
        if self._silent:
            warnings.warn(text, stacklevel=2)
        else:
            self._display.say(text)

    def _step(self) -> int:
        assert self._meter is not None
        return self._tasks[self._label][0] + self._meter.done

    def _log_rows(self) -> None:
        assert self._meter is not None
        self._last = self._clock()
        values = {f"{self._label}/rows": float(self._meter.done)}
        if rate := self._meter.rate():
            values[f"{self._label}/rows_per_second"] = rate
        self._log(values, self._step())
