"""How long this process has waited for servers of files that did not answer: time that is not part
of what scoring takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Outages:
    """Wall-clock seconds in which at least one request was waiting. Requests of several threads
    that wait at the same time count once.

    Arguments:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._waiting = 0  # requests
        self._seconds = 0.0  # until `_end`
        self._start = self._end = clock()

    def begin(self, since: float) -> None:
        """A request waits; `since`: when it was first sent, by the clock."""
        with self._lock:
            since = max(since, self._end)  # no second is counted twice
            self._start = min(since, self._start) if self._waiting else since
            self._waiting += 1

    def end(self) -> None:
        """A request that waited has its answer, or was given up."""
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self._end = self._clock()
                self._seconds += self._end - self._start

    @property
    def seconds(self) -> float:
        """So far, the present wait included."""
        with self._lock:
            now = self._clock() - self._start if self._waiting else 0.0
            return self._seconds + now


OUTAGES = Outages()
"""Of this process. Requests of `storage.retries` are counted."""
