"""A stand-in for the module `ray`, whose actors do what a test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thresher.selection.worker_state import Ended, WorkerState


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class Exceptions:
    RayError, RayTaskError = RayError, RayTaskError


@dataclass(eq=False)
class Ref:
    """The result of a call: a value, an exception to be raised, or None while it runs."""

    result: Any = None


@dataclass(eq=False)
class Call:
    refs: list[Ref] = field(default_factory=list)
    result: Any = None

    def remote(self, *_: Any) -> Ref:
        self.refs.append(Ref(self.result))
        return self.refs[-1]


class Actor:
    """Runs until `end` or `die` is called."""

    def __init__(self, number: int) -> None:
        self.run, self.state, self.stop = Call(), Call(), Call()
        self.state.result = WorkerState(f"node{number}", "CPU")
        self.killed = False

    def scored(self, rows: int) -> None:
        self.state.result = WorkerState(self.state.result.node, "CPU", rows, "loss")

    def end(self, error: Exception | None = None) -> None:
        self.run.refs[0].result = Ended(self.state.result, error)  # type: ignore[arg-type]

    def die(self, error: Exception) -> None:
        self.run.refs[0].result = error


class FakeRay:
    exceptions = Exceptions

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.resources: dict[str, Any] = {}

    def remote(self, *arguments: Any) -> Any:
        """A class made an actor's, or an actor of it."""
        if arguments:
            return self
        self.actors.append(Actor(len(self.actors) + 1))
        return self.actors[-1]

    def options(self, **resources: Any) -> FakeRay:
        self.resources = resources
        return self

    def wait(
        self, refs: list[Ref], num_returns: int = 1, timeout: float = 0
    ) -> tuple[list[Ref], list[Ref]]:
        ready = [ref for ref in refs if ref.result is not None]
        return ready, [ref for ref in refs if ref.result is None]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.result, Exception):
            raise ref.result
        return ref.result

    def kill(self, actor: Actor) -> None:
        actor.killed = True
