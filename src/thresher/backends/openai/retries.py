"""How long to wait before a request is sent again: as the server asks, else exponential backoff
with jitter.

The jitter keeps clients that failed together from retrying together.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tenacity import RetryCallState, wait_random_exponential
from tenacity.stop import stop_base

from thresher.backends.openai.failures import TimedOut, Transient

# seconds, if the server names no time: 12 tries then wait about half a minute altogether
MAX_WAIT = 8.0
MAX_RETRY_AFTER = 600.0  # seconds that a server may ask for; the run stops if it asks for more
MAX_WAIT_AFTER_ERROR = 2.0  # seconds after an error that load does not explain, such as 500
# consecutive timeouts while the server has answered nothing: it is not a model server, or needs a
# longer --timeout
MAX_TIMEOUTS = 3
# consecutive equal failures that the server explained and load does not: further tries are useless
MAX_EQUAL_FAILURES = 5


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for.

    Arguments:
        header: a number, or an HTTP date.
        now: the current time.

    None if it cannot be read.

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
        if date.tzinfo is None:  # "-0000": no time zone, which HTTP defines as UTC
            date = date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    if seconds != seconds:  # "nan"
        return None
    return max(seconds, 0.0)


def wait_strategy(backoff: float) -> Callable[[RetryCallState], float]:
    """For tenacity: seconds before the next try, from the base of the exponential backoff."""
    by_chance = wait_random_exponential(multiplier=backoff, max=MAX_WAIT)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        after = error.after if isinstance(error, Transient) else None
        drawn = float(by_chance(state))
        if isinstance(error, Transient) and not error.overloaded:
            drawn = min(drawn, MAX_WAIT_AFTER_ERROR)
        return drawn if after is None else after + min(drawn, 1.0 + 0.1 * after)

    return wait


class StopOnEqualFailures(stop_base):
    """For tenacity: stop after repeated equal failures that the server explained.

    Arguments:
        known: whether other rows were at fault with this reason, so that no explanation is needed.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._reason, self._times = "", 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        explained = isinstance(error, Transient) and error.reason_given and not error.overloaded
        if not isinstance(error, Transient) or not (explained or self._known(error.reason)):
            self._reason, self._times = "", 0
            return False
        self._times = self._times + 1 if error.reason == self._reason else 1
        self._reason = error.reason
        return self._times >= MAX_EQUAL_FAILURES


class StopOnTimeouts(stop_base):
    """For tenacity: stop after repeated timeouts of a server that has answered nothing so far.

    Arguments:
        answered: whether it has given a usable answer.
    """

    def __init__(self, answered: Callable[[], bool]) -> None:
        self._answered = answered
        self._times = 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        silent = isinstance(error, TimedOut) and not self._answered()
        self._times = self._times + 1 if silent else 0
        return self._times >= MAX_TIMEOUTS
