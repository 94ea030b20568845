"""The time that a job takes, measured so that one moment on a busy machine counts little."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

QUICK_SECONDS = 2.0  # within these a job is repeated
MOST_RUNS = 3


def typical_seconds(job: Callable[[], Iterable[object]]) -> float:
    """Median seconds of a job that is warm: of up to `MOST_RUNS` runs, of a slow job of one.

    Arguments:
        job: makes what is run to its end.
    """
    seconds: list[float] = []
    while not seconds or (len(seconds) < MOST_RUNS and sum(seconds) < QUICK_SECONDS):
        began = time.perf_counter()
        for _ in job():
            continue
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
