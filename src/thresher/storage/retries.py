"""Requests to remote file systems, repeated while the server is away or busy. What was waited for
answers is counted (`outages`)."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.stop import stop_after_attempt, stop_after_delay, stop_any
from tenacity.wait import wait_random_exponential

from thresher.errors import Notice, reason_of
from thresher.storage.outages import OUTAGES

GIVE_UP = 180.0  # seconds without an answer
MAX_WAIT = 5.0  # seconds between two tries
# botocore's classes of these names; its module is not imported for other protocols
NO_ACCESS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
CERTAIN = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError)
# a mistake in the address, or in a program: another try gives the same
MISTAKES = (ValueError, TypeError, LookupError, AttributeError, ImportError, NotImplementedError)
INVALID = ("ParamValidationError",)  # of botocore: a bucket that no server can have
T = TypeVar("T")


def retried(request: Callable[[], T], where: str, *, patient: bool = True) -> T:
    """The result of a request. Raises its last error.

    Arguments:
        request: called until it succeeds, or fails with an error that will not pass.
        where: what it is sent to, for the notice that it does not answer.
        patient: False tries once.
    """

    began, waits = time.monotonic(), False

    def failed(state: RetryCallState) -> None:
        nonlocal waits
        if not waits:
            waits = True
            OUTAGES.begin(began)
        error = None if state.outcome is None else state.outcome.exception()
        if state.attempt_number == 1 and error is not None:
            warnings.warn(
                f"{where} does not answer ({reason_of(error)}). Trying again for "
                f"{GIVE_UP / 60:g} minutes.",
                Notice,
                stacklevel=2,
            )

    tries = Retrying(
        stop=stop_any(stop_after_delay(GIVE_UP), stop_after_attempt(sys.maxsize if patient else 1)),
        wait=wait_random_exponential(multiplier=0.5, max=MAX_WAIT),
        retry=retry_if_exception(may_pass),
        before_sleep=failed,
        reraise=True,
    )
    try:
        return tries(request)
    finally:
        if waits:
            OUTAGES.end()


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later: the server is away or busy."""
    certain = isinstance(error, (*CERTAIN, *MISTAKES))
    return isinstance(error, Exception) and not (
        certain or type(error).__name__ in (*NO_ACCESS, *INVALID)
    )
