"""Rows requested concurrently, each by one worker thread that sends its requests one after the
other.

One worker per row: rows are complete early, little is unfinished when the run is stopped, and a
server that caches prefixes finds the row's prompt again from its second question on. The first row
runs alone, until the server has answered once. Independent of HTTP. Workers are daemon threads, so
that a hanging server cannot delay the end of the process.
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

from thresher.backends.openai.failures import SERVER, Refused, TimedOut, Transient
from thresher.backends.openai.options import ServerOptions
from thresher.errors import CapReached, ImageError, ServerError, opt
from thresher.types import RowError

MAX_GIVEN_UP = 8  # consecutive rows given up, after which the server is considered down
MAX_UNREACHABLE = 3  # the same, for rows without even a connection
MAX_REQUEUES = 2  # how often a row is requested again that was given up while the server was down
JOIN_SECONDS = 0.5  # seconds to wait for all workers together


@dataclass(frozen=True)
class RowResult:
    """The value of one row, or its error."""

    row: int
    value: Any = None
    error: str = ""


@dataclass
class ServerHealth:
    """Whether a server works, during the lifetime of a backend."""

    server: str = ""  # its URL
    answered: bool = False

    def is_down(self, given_up: int, unreachable: int, concurrency: int) -> bool:
        """Whether the server is considered down.

        Arguments:
            given_up: consecutive rows given up; each after a failed probe request (`Client.chat`).
            unreachable: consecutive rows without a connection.
            concurrency: rows requested at the same time.
        """
        if not self.answered:
            return given_up > 0
        return given_up >= max(MAX_GIVEN_UP, concurrency) or unreachable >= MAX_UNREACHABLE


AskRow = Callable[[int, Callable[[], None], threading.Event], Any]
"""(row, to be called before each of its requests, stop) -> the row's value."""


class _Undecided:
    """Failed rows of which it is not known yet whether they or the server are at fault."""

    def __init__(self) -> None:
        self.given_up: list[tuple[int, Transient]] = []
        self.refused: list[RowResult] = []  # before the server has answered anything
        self._times: Counter[int] = Counter()

    def give_up(self, row: int, error: Transient) -> None:
        self._times[row] += 1
        self.given_up.append((row, error))

    @property
    def unreachable(self) -> int:
        """How many of the last rows had no connection."""
        return sum(
            1
            for _ in itertools.takewhile(lambda held: not held[1].reached, reversed(self.given_up))
        )

    def release(self) -> tuple[list[int], list[RowResult]]:
        """Called when the server answers again: the rows to request again, and those that failed
        too often."""
        again = [row for row, _ in self.given_up if self._times[row] <= MAX_REQUEUES]
        failed = [
            _failed(row, error) for row, error in self.given_up if self._times[row] > MAX_REQUEUES
        ]
        failed += self.refused
        self.given_up, self.refused = [], []
        return again, failed


def ask_rows(
    count: int, requests: int, ask: AskRow, options: ServerOptions, health: ServerHealth
) -> Iterator[list[RowResult]]:
    """Run all rows and yield results as soon as they are complete.

    Arguments:
        count: rows, numbered from 0.
        requests: of each row.
        ask: computes a row's value.
        options: of the run.
        health: of the server.

    Rows that the server refuses, or fails while it answers others, have an error. Raises, after all
    results were yielded: CapReached; ServerError if the server answers nothing; and what a worker
    raises. A row that was stopped half-way is not yielded.
    """
    workers = _Workers(ask, options)
    left: deque[int] = deque(range(count))
    unanswered = _Undecided()
    running = yielded = 0
    full = False
    fatal: BaseException | None = None
    try:
        while fatal is None:
            width = options.concurrency if health.answered else 1
            while not full and left and running < width:
                full = not options.account.admit(
                    requests, options.max_requests, options.cost(), options.max_cost
                )
                if not full:
                    workers.submit(left.popleft(), requests)
                    running += 1
            if not running:
                break
            ready: list[RowResult] = []
            for row, value, error in workers.results(wait=True):
                running -= 1
                if error is None:
                    ready.append(RowResult(row, value))
                elif isinstance(error, Refused) and error.maybe_all:
                    unanswered.refused.append(RowResult(row, None, str(error.row_error)))
                elif isinstance(error, ImageError):
                    ready.append(RowResult(row, None, str(RowError.of(error))))
                elif isinstance(error, Refused):
                    ready.append(RowResult(row, None, str(error.row_error)))
                elif isinstance(error, Transient) and error.row_at_fault:
                    ready.append(_failed(row, error))
                elif isinstance(error, Transient):
                    unanswered.give_up(row, error)
                elif isinstance(error, CapReached):
                    full = True
                else:
                    fatal = fatal or error
                if error is None or _server_answered(error, health):
                    health.answered = True
                    again, failed = unanswered.release()
                    left.extend(again)
                    ready += failed
            if health.is_down(
                len(unanswered.given_up), unanswered.unreachable, options.concurrency
            ):
                fatal = fatal or _server_down(unanswered.given_up, health)
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
            raise _server_down(unanswered.given_up, health)
        if full and yielded < count:
            raise CapReached(_cap_message(options, requests))
    except KeyboardInterrupt:
        yield workers.answered()
        raise
    finally:
        workers.stop()


def _server_answered(error: BaseException, health: ServerHealth) -> bool:
    """Whether the server answered something else while this row failed. A refusal alone does not
    show that the model works."""
    if isinstance(error, Refused):
        return not error.maybe_all and not health.answered
    return isinstance(error, Transient) and error.row_at_fault


def _failed(row: int, error: Transient) -> RowResult:
    return RowResult(row, None, str(RowError(SERVER, _given_up(error))))


def _given_up(error: Transient) -> str:
    return f"given up after {error.tries} {'try' if error.tries == 1 else 'tries'}: {error.reason}"


def _server_down(given_up: Sequence[tuple[int, Transient]], health: ServerHealth) -> ServerError:
    what = "the first row was" if len(given_up) == 1 else f"the last {len(given_up)} rows were"
    last = given_up[-1][1]
    kept = "Nothing was stored as a failure; earlier results are stored."
    again = "Run the same command again when the server is back."
    if not health.answered:
        right = "" if last.reason_given else "Is the URL right, and is the server running? "
        if isinstance(last, TimedOut):
            right += f"A slow one needs a longer {opt('timeout')}. "
        again = f"{right}Run the same command again when it answers."
    answers = "answers with errors only" if last.reason_given else "does not answer"
    return ServerError(
        f"The server {health.server} {answers}: {what} {_given_up(last)}. {kept} {again}"
    )


def _cap_message(options: ServerOptions, requests: int) -> str:
    # the same command would never get on
    if options.max_requests is not None and requests > options.max_requests:
        return (
            f"{opt('max_requests', options.max_requests)} is not enough for one row, which takes "
            f"{requests:,}. Raise it. So far: {options.bill()}; results are stored."
        )
    caps = []
    if options.max_requests is not None:
        caps.append(opt("max_requests", options.max_requests))
    if options.max_cost is not None:
        caps.append(opt("max_cost", options.max_cost))
    return (
        f"Stopped at {' or '.join(caps)}: {options.bill()}. Results are stored. Run the same "
        "command again to continue (each run may use as much again), or raise the limit."
    )


class _Workers:
    """A pool of daemon threads, started as they are needed."""

    def __init__(self, ask: AskRow, options: ServerOptions) -> None:
        self._ask, self._options = ask, options
        self._tasks: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open = 0

    def submit(self, row: int, requests: int) -> None:
        self._open += 1
        if len(self._threads) < min(self._open, self._options.concurrency):
            name = f"thresher-request-{len(self._threads) + 1}"
            self._threads.append(threading.Thread(target=self._work, daemon=True, name=name))
            self._threads[-1].start()
        self._tasks.put((row, requests))

    def results(self, *, wait: bool) -> list[tuple[int, Any, BaseException | None]]:
        """Results since the last call; with `wait`, at least one."""
        out = [self._results.get()] if wait else []
        while True:
            try:
                out.append(self._results.get_nowait())
            except queue.Empty:
                self._open -= len(out)
                return out

    def answered(self) -> list[RowResult]:
        """Rows answered since the last call. They are paid for, so they are kept when a run
        stops."""
        return [
            RowResult(row, value) for row, value, error in self.results(wait=False) if error is None
        ]

    def stop(self) -> None:
        """Stop all workers: none sends another request. Waits at most JOIN_SECONDS for those that
        are sending; a thread that is running when Python exits can abort the process."""
        self._stop.set()
        for _ in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + JOIN_SECONDS
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
        except BaseException as error:  # noqa: BLE001 - passed to the consuming thread
            return row, None, error
        finally:
            self._options.account.finish_row(requests - sent)
