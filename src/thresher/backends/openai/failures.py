"""How one request can fail. Imports no other module of the package, so every one may use these.

Transient     may succeed later: sent again after a wait
  TimedOut    the server accepted the connection, but gave no complete answer within --timeout
  NoLogprobs  an answer without the requested log-probabilities
Refused       will never succeed: an error of its row, or of the whole run if no row is answered
"""

from __future__ import annotations

import re

from thresher.types import RowError

SERVER = "server"  # kind of a row's error that the server is the reason of


class Transient(Exception):
    """A request failed in a way that may pass.

    Arguments:
        reason: what happened, with the server's message.
        after: seconds that the server asks to wait, or None.
        reached: whether there was a connection to the server.
        overloaded: caused by load or the connection (429, 503, a timeout), so that repeated
            failures say nothing about the request.
        reason_given: whether the server explained the failure.

    Attributes:
        row_at_fault: set if the server answered other requests while it failed this one.
        tries: how often the request was sent.
    """

    def __init__(
        self,
        reason: str,
        after: float | None = None,
        reached: bool = True,
        *,
        overloaded: bool = False,
        reason_given: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.after, self.reached = reason, after, reached
        self.overloaded, self.reason_given = overloaded, reason_given
        self.row_at_fault = False
        self.tries = 0


class TimedOut(Transient):
    """No complete answer within the timeout."""


class NoLogprobs(Transient):
    """An answer without the requested log-probabilities."""


class Refused(Exception):
    """The server will never answer this request.

    Arguments:
        reason: what happened; the text of the exception.
        message: the server's message.
        parameters: the request parameters that the server names in a field for that purpose.
        kind: of the row's error.

    Attributes:
        row_error: stored as the row's error.
        maybe_all: nothing has been answered so far, so the server may refuse every request.
    """

    def __init__(
        self,
        reason: str,
        message: str = "",
        parameters: tuple[str, ...] = (),
        kind: str = SERVER,
    ) -> None:
        super().__init__(reason)
        self.message, self.parameters = message or reason, parameters
        self.row_error = RowError(kind, reason)
        self.maybe_all = False

    @property
    def alike(self) -> str:
        """The message without its numbers, in which refusals of the same reason differ."""
        return re.sub(r"\d+", "#", self.message)
