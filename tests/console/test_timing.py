"""The typical time of a job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from thresher.console import timing


@pytest.mark.parametrize(
    ("takes", "runs", "typical"),
    [
        ([0.5, 0.9, 0.4], 3, 0.5),  # quick: the median of three
        ([1.5, 3.5, 9.0], 2, 2.5),  # after two runs it was not quick
        ([2.0, 9.0, 9.0], 1, 2.0),
    ],
)
def test_quick_jobs_are_repeated(
    monkeypatch: pytest.MonkeyPatch, takes: list[float], runs: int, typical: float
) -> None:
    now, done = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def job() -> Iterator[None]:
        now[0] += takes[len(done)]
        done.append(None)
        yield

    assert timing.typical_seconds(job) == pytest.approx(typical) and len(done) == runs
