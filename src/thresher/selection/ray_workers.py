"""Workers on a Ray cluster: actors that are started, watched, replaced where they die, and ended.

Starts and ends actors; touches no file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thresher.console.formatting import pluralize
from thresher.errors import (
    CapabilityError,
    ModelError,
    ThresherError,
    TooManyFailures,
    opt,
)
from thresher.selection.ray_actor import Actor, RayJob, ScoringActor
from thresher.selection.ray_cluster import Placement
from thresher.selection.worker_state import Ended, WorkerState

POLL_SECONDS = 0.5
STATE_SECONDS = 1.0  # between two questions how far the workers are
REPORT_SECONDS = 30.0  # between two lines about them
GROW_SECONDS = 10.0  # between two looks for new GPUs
PENDING_SECONDS = 60.0  # until it is reported that a worker does not start
END_SECONDS = 30.0  # for a worker to store what it has scored
IDLE_END_SECONDS = 2.0  # for a worker that has nothing to store
MAX_DEATHS = 5  # of a worker that scores nothing in between
OF_THE_RUN = (TooManyFailures, CapabilityError)  # errors that every worker would have
CALLS = 3  # `run`, `state` and `stop` at the same time


@dataclass(frozen=True)
class Work:
    """What workers do, and how messages say it."""

    actor: type[Actor]
    unit: str  # what is counted
    progress: str  # what shows that a worker gets on
    kept: str  # of a worker that died
    taken: str  # what happens to the work of one that failed
    by: str  # before the list of workers


ROWS = Work(
    ScoringActor,
    "row",
    "having stored a row",
    "what it had stored is not scored again",
    "Its rows are scored by the others",
    "Scored by",
)


@dataclass(eq=False)
class _Worker:
    """One of the workers; another actor takes its place when one dies."""

    number: int  # from 1
    actor: Any
    task: Any  # the result of `run`, to come; None once it ended
    since: float  # when the actor was asked for
    asked: Any = None  # the result of `state`, to come
    state: WorkerState | None = None  # of the present actor; None: it has not started
    before: int = 0  # done by earlier actors, as far as it is known
    deaths: int = 0  # since it last got on
    restarts: int = 0
    error: BaseException | None = None  # why it was given up
    reported: int = 0  # done at the last line about it

    @property
    def done(self) -> int:
        return self.before + (self.state.done if self.state is not None else 0)

    @property
    def name(self) -> str:
        where = "" if self.state is None else f" on {self.state.node} ({self.state.device})"
        return f"worker {self.number}{where}"


class RayWorkers:
    """Workers of one run (`engine.workers.Workers`).

    Arguments:
        ray: the module, connected.
        job: of every worker.
        placement: what a worker runs on, and how many there are at first.
        wanted: how many there should be now.
        say: receives what happened to a worker.
        report: receives a line on the progress of every worker, now and then; None: nothing does.
        work: what they do.
        began: called with what a worker has begun (`WorkerState.task`) and the worker's name.
    """

    def __init__(
        self,
        ray: Any,
        job: RayJob,
        placement: Placement,
        wanted: Callable[[], int],
        say: Callable[[str], None],
        report: Callable[[str], None] | None,
        work: Work = ROWS,
        began: Callable[[str, str], None] | None = None,
    ) -> None:
        self._began = began
        self._ray, self._job, self._wanted, self._work = ray, job, wanted, work
        self._say, self._report = say, report
        self._class = ray.remote(work.actor).options(
            **placement.resources,
            max_concurrency=CALLS,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        now = time.monotonic()
        self._grown = self._asked = self._reported = now
        self._pending_said = self._finished = False
        self._first = placement.workers  # to be started
        self._workers: list[_Worker] = []

    def watch(self) -> bool:
        """As `Workers.watch`. The first call starts the workers: a run that finds everything in
        the store needs none."""
        if not self._workers:
            self._grown = time.monotonic()
            for _ in range(self._first):
                self._add()
            return True
        running = [worker for worker in self._workers if worker.task is not None]
        if running:
            tasks = [worker.task for worker in running]
            ended, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=POLL_SECONDS)
            for worker in running:
                if worker.task in ended:
                    self._end(worker)
        self._ask()
        self._tell()
        self._grow()
        if any(worker.task is not None for worker in self._workers):
            return True
        errors = [worker.error for worker in self._workers if worker.error is not None]
        if errors and not self._finished:
            raise errors[-1]
        return False

    def close(self, saved: bool) -> None:
        """End the workers. `saved`: whether all is done, so that nothing can be lost."""
        running = [w for w in self._workers if w.task is not None and w.state is not None]
        for worker in running:
            worker.actor.stop.remote()
        try:
            if running:
                tasks = [worker.task for worker in running]
                busy = [worker.task for worker in running if worker.state and worker.state.label]
                self._ray.wait(tasks, num_returns=len(tasks), timeout=IDLE_END_SECONDS)
                if busy:
                    self._ray.wait(busy, num_returns=len(busy), timeout=END_SECONDS)
                self._take_last_states(running)
        finally:
            for worker in self._workers:
                self._ray.kill(worker.actor)
        if saved and self._workers and self._report is not None:
            self._report(f"{self._work.by} {self._lines()}.")

    def _add(self) -> None:
        actor = self._class.remote()
        number = len(self._workers) + 1
        self._workers.append(_Worker(number, actor, actor.run.remote(self._job), time.monotonic()))

    def _end(self, worker: _Worker) -> None:
        """The call of `run` has ended, or the actor has died."""
        errors = self._ray.exceptions
        task, worker.task = worker.task, None
        try:
            result: Ended = self._ray.get(task)
        except errors.RayTaskError as bug:  # what `run` does not expect
            self._give_up(worker, bug)
            return
        except errors.RayError as death:
            self._replace(worker, death)
            return
        worker.state, worker.asked = result.state, None
        if result.error is None:
            self._finished = True
        elif isinstance(result.error, OF_THE_RUN):
            raise result.error
        else:
            self._give_up(worker, result.error)

    def _give_up(self, worker: _Worker, error: BaseException) -> None:
        worker.error = error
        reason = error.message if isinstance(error, ThresherError) else _last_line(error)
        self._say(f"{_capital(worker.name)} failed: {reason.rstrip('.')}. {self._work.taken}.")

    def _replace(self, worker: _Worker, death: BaseException) -> None:
        got_on = worker.state is not None and worker.state.done > 0
        worker.deaths = 1 if got_on else worker.deaths + 1
        reason, name = _last_line(death), worker.name
        worker.before, worker.state, worker.asked = worker.done, None, None
        self._ray.kill(worker.actor)  # if Ray has only lost sight of it
        if worker.deaths >= MAX_DEATHS:
            error = ModelError(
                f"it died {worker.deaths} times without {self._work.progress}: {reason}. If it was "
                f"killed, its node may be short of memory: try a smaller {opt('batch_tokens')}, or "
                f"fewer workers ({opt('ray_workers')})"
            )
            self._give_up(worker, error)
            return
        worker.restarts += 1
        worker.actor = self._class.remote()
        worker.task, worker.since = worker.actor.run.remote(self._job), time.monotonic()
        self._say(f"{_capital(name)} died and is replaced; {self._work.kept}.")

    def _ask(self) -> None:
        """Take the answers to the last question how far the workers are, and ask again."""
        now = time.monotonic()
        self._take_states()
        if now - self._asked < STATE_SECONDS:
            return
        self._asked = now
        for worker in self._workers:
            if worker.task is not None and worker.asked is None:
                worker.asked = worker.actor.state.remote()

    def _take_states(self) -> None:
        asked = [worker for worker in self._workers if worker.asked is not None]
        if not asked:
            return
        refs = [worker.asked for worker in asked]
        answered, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        for worker in asked:
            if worker.asked in answered:
                answer, worker.asked = worker.asked, None
                try:
                    state = self._ray.get(answer)
                except self._ray.exceptions.RayError:
                    continue  # it died: the call of `run` says so
                before, worker.state = worker.state, state
                new = before is None or before.task != state.task
                if self._began is not None and new and state.task:
                    self._began(state.task, worker.name)

    def _take_last_states(self, workers: list[_Worker]) -> None:
        """The states of workers that have ended by themselves since the last question."""
        for worker in workers:
            ended, _ = self._ray.wait([worker.task], timeout=0)
            if ended:
                try:
                    worker.state = self._ray.get(worker.task).state
                except self._ray.exceptions.RayError:
                    pass  # it died at the end

    def _tell(self) -> None:
        """A line about every worker every `REPORT_SECONDS`, and about those that do not start."""
        now = time.monotonic()
        pending = [
            worker
            for worker in self._workers
            if worker.task is not None
            and worker.state is None
            and now - worker.since > PENDING_SECONDS
        ]
        if pending and not self._pending_said:
            self._say(
                f"{pluralize(len(pending), 'worker')} of {len(self._workers)} did not start within "
                f"{PENDING_SECONDS:g} s: the cluster has too few free GPUs or CPUs, or its nodes "
                "are slow. They start as soon as there is room."
            )
        self._pending_said = bool(pending)
        if self._report is None or now - self._reported < REPORT_SECONDS:
            return
        seconds, self._reported = now - self._reported, now
        self._report(f"Workers: {self._lines(seconds)}.")
        for worker in self._workers:
            worker.reported = worker.done

    def _lines(self, seconds: float = 0.0) -> str:
        """Every worker and what it did; `seconds`: since the last line, for rates; 0: none."""
        parts = []
        for worker in self._workers:
            rows = seconds and self._work.unit == "row"  # cells take too long for a rate
            rate = f", {(worker.done - worker.reported) / seconds:.1f}/s" if rows else ""
            doing = worker.state.doing if seconds and worker.state else ""
            what = f" ({doing})" if doing else ""
            again = f", replaced {pluralize(worker.restarts, 'time')}" if worker.restarts else ""
            parts.append(
                f"{worker.name}: {pluralize(worker.done, self._work.unit)}{rate}{what}{again}"
            )
        return "; ".join(parts)

    def _grow(self) -> None:
        """Start further workers where nodes with GPUs were added."""
        if self._finished or time.monotonic() - self._grown < GROW_SECONDS:
            return
        self._grown = time.monotonic()
        for _ in range(self._wanted() - len(self._workers)):
            self._add()


def _last_line(error: BaseException) -> str:
    """What an error of Ray is about: its last line, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
