"""Waiting times between retries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tenacity import Future, RetryCallState, Retrying

from thresher.backends.openai.failures import TimedOut, Transient
from thresher.backends.openai.retries import (
    MAX_TIMEOUTS,
    MAX_WAIT,
    StopOnTimeouts,
    retry_after,
    wait_strategy,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("2.5", 2.5),
        ("-3", 0.0),
        ("99999", 99999.0),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2026 12:00:10 -0000", 10.0),
        ("later", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


def state(error: Exception, tries: int) -> RetryCallState:
    out = RetryCallState(Retrying(), None, (), {})
    out.attempt_number = tries
    future = Future(tries)
    future.set_exception(error)
    out.outcome = future
    return out


def test_backoff_grows_with_jitter_and_is_limited() -> None:
    wait = wait_strategy(0.5)
    for tries, most in ((1, 0.5), (2, 1.0), (4, 4.0), (12, MAX_WAIT)):
        drawn = [wait(state(Transient("HTTP 503", overloaded=True), tries)) for _ in range(200)]
        assert min(drawn) >= 0 and most / 2 < max(drawn) <= most
        assert len(dict.fromkeys(drawn)) > 100


def test_waits_as_long_as_retry_after() -> None:
    drawn = [wait_strategy(0.5)(state(Transient("HTTP 429", after=20.0), 3)) for _ in range(50)]
    assert min(drawn) >= 20.0 and max(drawn) <= 23.0


def test_server_without_any_answer_is_abandoned_after_few_timeouts() -> None:
    answered = False
    stop = StopOnTimeouts(lambda: answered)
    late, busy = (
        TimedOut("no complete answer within 2 s", overloaded=True),
        Transient("HTTP 503", overloaded=True),
    )
    assert [stop(state(late, t)) for t in range(1, MAX_TIMEOUTS + 1)] == [False] * (
        MAX_TIMEOUTS - 1
    ) + [True]
    assert [StopOnTimeouts(lambda: False)(state(busy, t)) for t in range(1, 9)] == [False] * 8
    stop = StopOnTimeouts(lambda: answered)
    assert not any(stop(state(error, 1)) for error in (late, late, busy, late, late))
    answered = True
    assert not any(stop(state(late, t)) for t in range(1, 9))
