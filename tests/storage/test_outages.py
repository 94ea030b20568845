"""Seconds in which servers of files did not answer; waits that overlap count once."""

from __future__ import annotations

from thresher.storage.outages import Outages


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_wait_counts_from_its_first_request() -> None:
    clock = Clock()
    outages = Outages(clock)
    clock.now = 110.0
    outages.begin(since=104.0)
    assert outages.seconds == 6.0
    clock.now = 112.0
    outages.end()
    clock.now = 200.0
    assert outages.seconds == 8.0


def test_waits_of_several_threads_count_once() -> None:
    clock = Clock()
    outages = Outages(clock)
    clock.now = 110.0
    outages.begin(since=108.0)
    outages.begin(since=105.0)  # sent before the other one, and failed after it
    clock.now = 115.0
    outages.end()
    assert outages.seconds == 10.0
    clock.now = 120.0
    outages.end()
    assert outages.seconds == 15.0


def test_no_second_counts_twice() -> None:
    clock = Clock()
    outages = Outages(clock)
    clock.now = 110.0
    outages.begin(since=104.0)
    outages.end()
    outages.begin(since=102.0)  # sent during the wait that has ended
    clock.now = 111.0
    outages.end()
    assert outages.seconds == 7.0
