"""How one request can fail. Imports nothing, so that every file here may raise and catch these.

Transient     may pass: sent again after a wait
  TimedOut    the server was there, and no complete answer came within --timeout
  NoLogprobs  an answer without the log-probabilities that were asked for
Refused       will never be answered: the failure of its row, or of the whole run where no row is
              answered
"""

from __future__ import annotations

import re


class Transient(Exception):
    """A request failed in a way that may pass.

    `reason`: what happened, with the server's own words. `after`: seconds that the server asked to
    wait, or None.
    `reached`: the server was there at all. `load`: a matter of load or of the connection (429, 503,
    a timeout), so that equal failures in a row say nothing about the request. `reason_given`: the
    server explained it in words of its own.
    `row_at_fault`: set where the server answered other requests while it failed this one. `tries`:
    times that it was sent.
    """

    def __init__(
        self,
        reason: str,
        after: float | None = None,
        reached: bool = True,
        *,
        load: bool = False,
        reason_given: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.after, self.reached = reason, after, reached
        self.load, self.reason_given = load, reason_given
        self.row_at_fault = False
        self.tries = 0


class TimedOut(Transient):
    """No complete answer came in time."""


class NoLogprobs(Transient):
    """An answer without the log-probabilities that were asked for."""


class Refused(Exception):
    """The server will never answer this request. The text is the reason that is stored with the
    row.

    `words`: what the server said. `named`: the parameters that it names in a field made for that.
    `of_all`: nothing has been answered so far, so the refusal may be about every request.
    """

    def __init__(self, reason: str, words: str = "", named: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.words, self.named = words or reason, named
        self.of_all = False

    @property
    def kind(self) -> str:
        """The words without their numbers and quoted parts: refusals of one kind differ in
        these."""
        return re.sub(r"\d+", "#", self.words)
