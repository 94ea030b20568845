"""What a run has sent and spent, counted across threads, and whether another row fits under the
limits.

A row is admitted only if all its requests fit, so that at a limit no row is left half finished (and
half paid). Retries use what no admitted row has reserved.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Account:
    """reserved: requests that admitted rows have not sent yet. rows: rows that ended. running: rows
    admitted that have not ended."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    reserved: int = 0
    rows: int = 0
    running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def admit(
        self, requests: int, most: int | None, spent: float | None, most_cost: float | None
    ) -> bool:
        """Whether a row may start; if so, its requests are reserved.

        Arguments:
            requests: of the row.
            most: limit on the requests of the run; None: no limit.
            spent: the cost so far; None: unknown.
            most_cost: limit on the cost; None: no limit.

        A row's cost is known only afterwards: it is expected to be the mean of the rows so far.
        """
        with self.lock:
            if most is not None and self.requests + self.reserved + requests > most:
                return False
            if spent is not None and most_cost is not None:
                expected = spent / self.rows * (self.running + 1) if self.rows else 0.0
                if spent + expected > most_cost or spent >= most_cost:
                    return False
            self.reserved += requests
            self.running += 1
            return True

    def finish_row(self, unsent: int) -> None:
        """Record that a row ended.

        Arguments:
            unsent: of its reserved requests.
        """
        with self.lock:
            self.reserved -= unsent
            self.running -= 1
            self.rows += 1

    def send(self, most: int | None, *, again: bool) -> bool:
        """Count one request; False if the limit has no room for a retry.

        Arguments:
            most: limit on the requests of the run; None: no limit.
            again: a retry, which is not reserved.
        """
        with self.lock:
            if again:
                if most is not None and self.requests + self.reserved + 1 > most:
                    return False
            else:
                self.reserved -= 1
            self.requests += 1
            return True

    def add_tokens(self, tokens_in: int, tokens_out: int) -> None:
        """Count the prompt tokens and answer tokens of a response.

        Arguments:
            tokens_in: of the prompt.
            tokens_out: of the answers.
        """
        with self.lock:
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out
