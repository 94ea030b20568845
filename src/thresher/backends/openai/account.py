"""What a run has sent and paid, counted across threads, and whether another row fits under the
caps.

A row is admitted only if all its requests fit, so that at a cap no row is left half asked (and half
paid). Repeated requests take what no admitted row has reserved. Touches nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Account:
    """`reserved`: requests that admitted rows have not sent yet. `rows`, `under_way`: rows that
    ended, rows admitted."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    reserved: int = 0
    rows: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def admit(
        self, requests: int, most: int | None, spent: float | None, most_cost: float | None
    ) -> bool:
        """Whether a row of so many requests may begin. `spent`: the cost so far.

        Cost is known only afterwards: a row is expected to cost what rows cost so far.
        """
        with self.lock:
            if most is not None and self.requests + self.reserved + requests > most:
                return False
            if spent is not None and most_cost is not None:
                expected = spent / self.rows * (self.under_way + 1) if self.rows else 0.0
                if spent + expected > most_cost or spent >= most_cost:
                    return False
            self.reserved += requests
            self.under_way += 1
            return True

    def leave(self, unsent: int) -> None:
        """A row ended, with so many of its reserved requests unsent."""
        with self.lock:
            self.reserved -= unsent
            self.under_way -= 1
            self.rows += 1

    def send(self, most: int | None, *, again: bool) -> bool:
        """Count one request, reserved or `again`; False where there is no room for a repeated
        one."""
        with self.lock:
            if again:
                if most is not None and self.requests + self.reserved + 1 > most:
                    return False
            else:
                self.reserved -= 1
            self.requests += 1
            return True

    def pay(self, tokens_in: int, tokens_out: int) -> None:
        with self.lock:
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out
