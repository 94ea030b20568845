"""Progress of long work: a bar with rate and remaining time on a terminal, plain lines elsewhere.

Always on stderr. Imports rich only when a bar is drawn. Work reports to a `Progress` and never
prints.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from thresher.console.formatting import format_duration

WINDOW = 30.0  # seconds over which the rate is measured: rows are sorted by length, so cost changes
EVERY = 10.0  # seconds between plain lines
TICK = 0.2  # seconds between measurements
NARROW = 46  # columns, besides the counts, below which neither bar nor counts are shown
# columns of the shortest bar, rate and remaining time; of percentage and remaining time
NUMBERS, NUMBERS_NARROW = 38, 24


class Progress(Protocol):
    """Receives progress reports. One task at a time: start, advance …, finish."""

    def start(self, label: str, total: int, done: int) -> None:
        """Begin a task of rows (or images).

        Arguments:
            label: the name of the task.
            total: number of rows.
            done: number of rows that were done before (stored already).
        """

    def advance(self, n: int) -> None:
        """`n` more are done."""

    def measure(self, name: str, value: float) -> None:
        """A number of the current task, for a log; displays ignore it.

        Arguments:
            name: such as "failed" (rows so far) or "loss" (of a step).
            value: its latest value.
        """

    def finish(self) -> None:
        """The task ended; also called if it failed."""

    def say(self, text: str) -> None:
        """Show a message now, between tasks: for example what the work is waiting for."""


class NoProgress:
    """Discards all reports: for tests and for use as a library."""

    def start(self, label: str, total: int, done: int) -> None:
        return

    def advance(self, n: int) -> None:
        return

    def measure(self, name: str, value: float) -> None:
        return

    def finish(self) -> None:
        return

    def say(self, text: str) -> None:
        return


class Meter:
    """Rate and remaining time of one task, measured over the last `WINDOW` seconds.

    Arguments:
        total: number of rows of the task.
        done: number of rows that were done before.
        clock: returns seconds.

    >>> now = [0.0]
    >>> meter = Meter(total=100, done=20, clock=lambda: now[0])
    >>> now[0] = 4.0
    >>> meter.advance(40)
    >>> meter.rate(), meter.left()
    (10.0, 4.0)
    """

    def __init__(self, total: int, done: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.reused, self.done, self._clock = total, done, done, clock
        self.started = clock()
        self._seen = deque([(self.started, done)])

    def advance(self, n: int) -> None:
        self.done += n
        now = self._clock()
        if len(self._seen) > 1 and now - self._seen[-2][0] < TICK:
            self._seen[-1] = (now, self.done)  # called for every image: keep few measurements
        else:
            self._seen.append((now, self.done))
        while len(self._seen) > 2 and self._seen[1][0] < now - WINDOW:
            self._seen.popleft()

    @property
    def worked(self) -> int:
        """Rows done since the start."""
        return self.done - self.reused

    def seconds(self) -> float:
        return self._clock() - self.started

    def rate(self) -> float:
        """Rows per second; 0.0 while unknown."""
        (t0, n0), (t1, n1) = self._seen[0], self._seen[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    def left(self) -> float | None:
        """Seconds until the end at the current rate; None while unknown."""
        rate = self.rate()
        return (self.total - self.done) / rate if rate > 0 else None


def speed(rate: float) -> str:
    """A rate as text, short enough for the bar however fast a stored column is read.

    >>> [speed(r) for r in (0, 0.25, 7.3, 1234, 1_109_685_786)]
    ['?/s', '0.2/s', '7.3/s', '1,234/s', '1,110M/s']
    >>> [speed(r) for r in (0.03, 0.0007)]
    ['1.8/min', '2.5/h']
    """
    if rate <= 0:
        return "?/s"
    if rate < 0.1:
        return f"{60 * rate:.1f}/min" if rate >= 1 / 600 else f"{3600 * rate:.1f}/h"
    if rate >= 10_000_000:
        return f"{rate / 1e6:,.0f}M/s"
    return f"{rate:,.1f}/s" if rate < 10 else f"{rate:,.0f}/s"


class LineProgress:
    """Plain lines for logs and pipes: at the start, at most every ten seconds, and at the end.

    `rows`: total number of rows advanced since this object was created.

    Arguments:
        stream: where lines are written.
        clock: returns seconds.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rows = 0
        self._stream, self._clock = stream, clock
        self._meter: Meter | None = None
        self._label = ""
        self._last = 0.0

    def _say(self, text: str) -> None:
        print(f"{self._label}: {text}", file=self._stream or sys.stderr, flush=True)

    def start(self, label: str, total: int, done: int) -> None:
        self._label, self._meter, self._last = label, Meter(total, done, self._clock), self._clock()
        if total > done:
            self._say(f"{total - done:,} to do" + (f", {done:,} in the store" if done else ""))

    def advance(self, n: int) -> None:
        self.rows += n
        meter = self._meter
        if meter is None:
            return
        meter.advance(n)
        if self._clock() - self._last >= EVERY and meter.done < meter.total:
            self._last = self._clock()
            share = 100 * meter.done // max(meter.total, 1)
            self._say(
                f"{meter.done:,} of {meter.total:,} ({share}%), {speed(meter.rate())}, "
                f"{format_duration(meter.left())} left"
            )

    def measure(self, name: str, value: float) -> None:
        return

    def finish(self) -> None:
        meter, self._meter = self._meter, None
        if meter is not None and meter.worked:
            took = meter.seconds()
            self._say(
                f"{meter.worked:,} in {format_duration(took)} "
                f"({speed(meter.worked / took if took else 0.0)})"
            )

    def say(self, text: str) -> None:
        print(text, file=self._stream or sys.stderr, flush=True)


class BarProgress:
    """A bar on a terminal for each task; finished bars stay on the screen with their mean rate.

    `rows`: total number of rows advanced since this object was created.
    """

    def __init__(self, console: Any | None = None) -> None:
        self.rows = 0
        self._console = console  # a rich.console.Console on stderr
        self._bar: Any = None

    def start(self, label: str, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        if total <= done:
            return

        class RateColumn(ProgressColumn):
            def render(self, task: Any) -> Text:
                mean = (task.completed - done) / task.elapsed if task.finished else None
                return Text(speed(mean or task.speed or 0.0), style="cyan")

        console = self._console or Console(stderr=True)
        counts = 2 * len(f"{total:,}") + 1
        narrow = console.width < NARROW + counts
        wide_columns = [
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            RateColumn(),
        ]
        columns = [
            TextColumn("{task.description}", style="bold"),
            *([TextColumn("{task.percentage:.0f}%", style="cyan")] if narrow else wide_columns),
            TimeRemainingColumn(elapsed_when_finished=True),
        ]
        # so that no number is cut
        room = console.width - (NUMBERS_NARROW if narrow else NUMBERS + counts)
        name = label if len(label) <= room else label[: max(room - 1, 3)].rstrip("_ ") + "…"
        self._bar = RichProgress(
            *columns, console=console, speed_estimate_period=WINDOW, expand=not narrow
        )
        self._bar.add_task(name, total=total, completed=done)
        self._bar.start()

    def advance(self, n: int) -> None:
        self.rows += n
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], n)

    def measure(self, name: str, value: float) -> None:
        return

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        from rich.console import Console

        (self._console or Console(stderr=True)).print(
            text, markup=False, highlight=False, soft_wrap=True
        )


class ReadProgress:
    """Progress of reading a file whose number of rows is unknown: `reading(rows)`, every ten
    seconds.

    Silent for files that are read faster than that.

    Arguments:
        name: of the file.
        stream: where lines are written.
        clock: returns seconds.
    """

    def __init__(
        self, name: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._stream, self._clock = name, stream, clock
        self._rows, self._started = 0, clock()
        self._last = self._started
        self._hashing, self._done = 0.0, 0

    def __call__(self, rows: int) -> None:
        self._rows += rows
        now = self._clock()
        if now - self._last >= EVERY:
            self._last = now
            rate = speed(self._rows / (now - self._started))
            print(
                f"Reading {self._name}: {self._rows:,} rows ({rate})",
                file=self._stream or sys.stderr,
                flush=True,
            )

    def images(self, done: int, todo: int) -> None:
        """`done` of `todo` images have been hashed.

        Arguments:
            done: number of images that were hashed.
            todo: number of images to hash.
        """
        now = self._clock()
        if not self._hashing or done <= self._done:
            self._hashing = now
        self._done = done
        if now - self._last >= EVERY and done < todo:
            self._last = now
            rate = done / max(now - self._hashing, 1e-9)
            text = (
                f"{done:,} of {todo:,} ({100 * done // todo}%), {speed(rate)}, "
                f"{format_duration((todo - done) / rate)} left"
            )
            print(
                f"Hashing images of {self._name}: {text}",
                file=self._stream or sys.stderr,
                flush=True,
            )


def stderr_progress() -> BarProgress | LineProgress:
    """A bar if stderr is a terminal that can move its cursor, else plain lines."""
    return (
        BarProgress()
        if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        else LineProgress()
    )
