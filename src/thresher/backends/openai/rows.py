"""Rows asked side by side, each by one worker that sends its requests one after the other.

One worker a row: a row is complete early, little is under way when the run is stopped, and a server
that caches prefixes finds the row's prompt there again from its second question on. The first row
goes alone, until the server has answered once. Knows nothing of HTTP; workers are daemon threads,
so that a hanging server cannot hold up the end of the process.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from thresher.backends.openai.failures import Refused, TimedOut, Transient
from thresher.backends.openai.options import ServerOptions
from thresher.errors import CapReached, ImageError, ServerError

UNANSWERED = 8  # rows given up one after the other, before the server is held to be down
UNREACHABLE = 3  # the same, where not even a connection came about
AGAIN = 2  # times that a row is asked anew that was given up while the server answered nobody
PATIENCE = 0.5  # seconds for workers to end, all together


@dataclass(frozen=True)
class Done:
    """One row: its `value`, or why there is none."""

    row: int
    value: Any = None
    error: str = ""


@dataclass
class Health:
    """What is known of a server, for the life of a backend."""

    server: str = ""  # its URL
    answered: bool = False

    def is_down(self, given_up: int, unreachable: int, concurrency: int) -> bool:
        """After so many rows in a row in vain, and so many of them without a connection.

        Before each of them is given up, a stand-in has been asked in vain (`Client.chat`).
        """
        if not self.answered:
            return given_up > 0
        return given_up >= max(UNANSWERED, concurrency) or unreachable >= UNREACHABLE


Ask = Callable[[int, Callable[[], None], threading.Event], Any]
"""(row, to be called before each of its requests, stop) -> the row's value."""


class _Unanswered:
    """Rows without an answer of which it is not known whether they, or the server, are at fault."""

    def __init__(self) -> None:
        self.given_up: list[tuple[int, Transient]] = []
        self.refused: list[Done] = []  # before the server has answered anything
        self._times: Counter[int] = Counter()

    def give_up(self, row: int, error: Transient) -> None:
        self._times[row] += 1
        self.given_up.append((row, error))

    @property
    def unreachable(self) -> int:
        """How many of the last ones found no server at all."""
        return sum(
            1
            for _ in itertools.takewhile(lambda held: not held[1].reached, reversed(self.given_up))
        )

    def release(self) -> tuple[list[int], list[Done]]:
        """Now that the server answers: the rows to ask anew, and those that have failed by
        themselves."""
        again = [row for row, _ in self.given_up if self._times[row] <= AGAIN]
        failed = [
            Done(row, None, _given_up(error))
            for row, error in self.given_up
            if self._times[row] > AGAIN
        ]
        failed += self.refused
        self.given_up, self.refused = [], []
        return again, failed


def ask_rows(
    count: int, requests: int, ask: Ask, options: ServerOptions, health: Health
) -> Iterator[list[Done]]:
    """Rows 0 … count-1, `requests` each, in the order in which they end, as soon as they are there.

    Rows that the server refuses, or fails while it answers others, come with the reason. Raises,
    after what is there was
    yielded: CapReached; ServerError when the server answers nobody; and what a worker raises. A row
    that was stopped half-way is not yielded: it was not answered.
    """
    workers = _Workers(ask, options)
    left: deque[int] = deque(range(count))
    unanswered = _Unanswered()
    under_way = yielded = 0
    full = False
    fatal: BaseException | None = None
    try:
        while fatal is None:
            width = options.concurrency if health.answered else 1
            while not full and left and under_way < width:
                full = not options.account.admit(
                    requests, options.max_requests, options.cost(), options.max_cost
                )
                if not full:
                    workers.give(left.popleft(), requests)
                    under_way += 1
            if not under_way:
                break
            ready: list[Done] = []
            for row, value, error in workers.ended(wait=True):
                under_way -= 1
                if error is None:
                    ready.append(Done(row, value))
                elif isinstance(error, Refused) and error.of_all:
                    unanswered.refused.append(Done(row, None, str(error)))
                elif isinstance(error, Refused | ImageError):
                    ready.append(Done(row, None, str(error)))
                elif isinstance(error, Transient) and error.row_at_fault:
                    ready.append(Done(row, None, _given_up(error)))
                elif isinstance(error, Transient):
                    unanswered.give_up(row, error)
                elif isinstance(error, CapReached):
                    full = True
                else:
                    fatal = fatal or error
                if error is None or _shows_life(error, health):
                    health.answered = True
                    again, failed = unanswered.release()
                    left.extend(again)
                    ready += failed
            if health.is_down(
                len(unanswered.given_up), unanswered.unreachable, options.concurrency
            ):
                fatal = fatal or _down(unanswered.given_up, health)
            if ready:
                yielded += len(ready)
                yield ready
        if fatal is not None:
            yield workers.answered()
            raise fatal
        if unanswered.refused:
            yielded += len(unanswered.refused)
            yield unanswered.refused
        if unanswered.given_up and not full:
            raise _down(unanswered.given_up, health)
        if full and yielded < count:
            raise CapReached(_capped(options, requests))
    except KeyboardInterrupt:
        yield workers.answered()
        raise
    finally:
        workers.stop()


def _shows_life(error: BaseException, health: Health) -> bool:
    """Whether the server answered something else while this row failed. A refusal alone is no sign
    of a working model."""
    if isinstance(error, Refused):
        return not error.of_all and not health.answered
    return isinstance(error, Transient) and error.row_at_fault


def _given_up(error: Transient) -> str:
    return f"given up after {error.tries} {'try' if error.tries == 1 else 'tries'}: {error.reason}"


def _down(given_up: Sequence[tuple[int, Transient]], health: Health) -> ServerError:
    what = "the first row was" if len(given_up) == 1 else f"the last {len(given_up)} rows were"
    last = given_up[-1][1]
    kept = "Nothing was stored as a failure; what came before is stored."
    again = "Run the same command again when the server is back."
    if not health.answered:
        right = "" if last.reason_given else "Is the URL right, and is the server running? "
        right += "A slow one needs a longer --timeout. " if isinstance(last, TimedOut) else ""
        again = f"{right}Run the same command again when it answers."
    answers = "answers with errors only" if last.reason_given else "does not answer"
    return ServerError(
        f"The server {health.server} {answers}: {what} {_given_up(last)}. {kept} {again}"
    )


def _capped(options: ServerOptions, requests: int) -> str:
    # the same command would never get on
    if options.max_requests is not None and requests > options.max_requests:
        return (
            f"--max-requests {options.max_requests:,} does not suffice for one row, which takes "
            f"{requests:,}. Allow it more. So far: {options.bill()}; what came is stored."
        )
    caps = []
    if options.max_requests is not None:
        caps.append(f"--max-requests {options.max_requests:,}")
    if options.max_cost is not None:
        caps.append(f"--max-cost {options.max_cost:g}")
    return (
        f"Stopped at {' or '.join(caps)}: {options.bill()}. What came is stored. Run the same "
        "command again to go on (each run may use as much again), or allow it more."
    )


class _Workers:
    """Daemon threads, started as they are needed."""

    def __init__(self, ask: Ask, options: ServerOptions) -> None:
        self._ask, self._options = ask, options
        self._tasks: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open = 0

    def give(self, row: int, requests: int) -> None:
        self._open += 1
        if len(self._threads) < min(self._open, self._options.concurrency):
            name = f"thresher-request-{len(self._threads) + 1}"
            self._threads.append(threading.Thread(target=self._work, daemon=True, name=name))
            self._threads[-1].start()
        self._tasks.put((row, requests))

    def ended(self, *, wait: bool) -> list[tuple[int, Any, BaseException | None]]:
        """Rows that ended since the last call; at least one where `wait`."""
        out = [self._results.get()] if wait else []
        while True:
            try:
                out.append(self._results.get_nowait())
            except queue.Empty:
                self._open -= len(out)
                return out

    def answered(self) -> list[Done]:
        """Rows that were answered since then: paid for, so not to be lost on the way out."""
        return [Done(row, value) for row, value, error in self.ended(wait=False) if error is None]

    def stop(self) -> None:
        """No worker sends anything from now on but what it is sending. Those that wait for work
        have ended after this; for the others nobody waits longer than PATIENCE: a thread that is
        still there when Python ends can abort the process."""
        self._stop.set()
        for _ in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._results.put(self._row(*task))

    def _row(self, row: int, requests: int) -> tuple[int, Any, BaseException | None]:
        sent = 0

        def sending() -> None:
            nonlocal sent
            if self._stop.is_set():
                raise Transient("stopped")
            sent += 1

        try:
            return row, self._ask(row, sending, self._stop), None
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            return row, None, error
        finally:
            self._options.account.leave(requests - sent)
