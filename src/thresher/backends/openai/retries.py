"""How long to wait before a request is sent again: what the server asks for, else longer and
longer, with chance in it.

Chance keeps many clients that failed together from coming back together.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tenacity import RetryCallState, wait_random_exponential
from tenacity.stop import stop_base

from thresher.backends.openai.failures import TimedOut, Transient

# seconds, where the server says nothing: 12 tries then wait about half a minute in all
LONGEST = 8.0
LONGEST_ASKED = 600.0  # seconds that a server may ask for; the run stops where it asks for more
LONGEST_OF_A_FAULT = 2.0  # seconds after an answer that load does not explain, such as a 500
# in a row, while the server has answered nothing at all: it is no server, or needs a longer
# --timeout
TIMEOUTS = 3
# equal failures in a row that the server explained, of a kind that load does not explain: no more
# are needed
SAME = 5


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (a number, or an HTTP date), None where it says
    nothing that can be read.

    >>> retry_after("7"), retry_after("soon"), retry_after(None)
    (7.0, None, None)
    >>> retry_after("Wed, 21 Oct 2026 07:28:30 GMT", datetime(2026, 10, 21, 7, 28, tzinfo=UTC))
    30.0
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, TypeError, OverflowError):
            return None
        if date.tzinfo is None:  # "-0000": a time of no stated zone, which HTTP means as UTC
            date = date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    if seconds != seconds:  # "nan"
        return None
    return max(seconds, 0.0)


def waits(backoff: float) -> Callable[[RetryCallState], float]:
    """For tenacity: seconds before the next try."""
    by_chance = wait_random_exponential(multiplier=backoff, max=LONGEST)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        after = error.after if isinstance(error, Transient) else None
        drawn = float(by_chance(state))
        if isinstance(error, Transient) and not error.load:
            drawn = min(drawn, LONGEST_OF_A_FAULT)
        return drawn if after is None else after + min(drawn, 1.0 + 0.1 * after)

    return wait


class StopWhenSame(stop_base):
    """For tenacity: no further try where the server gives the same explained failure again and
    again.

    `known(reason)`: other rows have failed so by their own fault, so it needs no explanation.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._reason, self._times = "", 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        explained = isinstance(error, Transient) and error.reason_given and not error.load
        if not isinstance(error, Transient) or not (explained or self._known(error.reason)):
            self._reason, self._times = "", 0
            return False
        self._times = self._times + 1 if error.reason == self._reason else 1
        self._reason = error.reason
        return self._times >= SAME


class StopWhenSilent(stop_base):
    """For tenacity: no further try where a server that has answered nothing so far lets the time
    run out again and again.

    `answered()`: it has given a usable answer.
    """

    def __init__(self, answered: Callable[[], bool]) -> None:
        self._answered = answered
        self._times = 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        silent = isinstance(error, TimedOut) and not self._answered()
        self._times = self._times + 1 if silent else 0
        return self._times >= TIMEOUTS
