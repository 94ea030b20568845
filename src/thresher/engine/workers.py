"""Processes that do the work of a run in place of this one: compute its columns, or the cells of a
comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Workers(Protocol):
    """Processes that do the work of this run, and then end."""

    def watch(self) -> bool:
        """Wait a moment, and replace workers that died. Returns whether any is still at work; False
        means that all have ended, with nothing left to do.

        Raises what made the last worker fail, if none is left.
        """


def wait_until(done: Callable[[], bool], workers: Workers) -> None:
    """Wait until workers have done something, or have all ended.

    Arguments:
        done: whether it is done.
        workers: that do it.

    Raises what `Workers.watch` raises.
    """
    while not done() and workers.watch():
        pass
