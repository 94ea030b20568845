"""Runs of the library with options by keyword: a request and a context are made from them."""

from __future__ import annotations

import dataclasses
from typing import Any

from thresher.engine import RunContext
from thresher.engine.columns import Column, compute_all
from thresher.pools import Pool
from thresher.request import RunRequest
from thresher.selection import iterate
from thresher.selection import plan as planning
from thresher.selection import select as selecting
from thresher.selection.plan import Plan
from thresher.selection.result import Outcome
from thresher.selection.task import SelectionTask
from thresher.types import Budget, Method, Signal

OF_CONTEXT = {f.name for f in dataclasses.fields(RunContext)} - {"engine"}
OF_TASK = ("target", "leaks_checked", "excluded", "usable_only")


def resolved(
    pool: Pool, method: Method, budget: Budget, options: dict[str, Any]
) -> tuple[SelectionTask, RunContext]:
    """The task and its context: each option goes to the one that has a field of its name."""
    options = {name: value for name, value in options.items() if name != "roles" or value}
    at_hand = {name: options.pop(name) for name in OF_CONTEXT & options.keys()}
    of_task = {name: options.pop(name) for name in OF_TASK if name in options}
    return SelectionTask(pool, method, budget, RunRequest(**options), **of_task), RunContext(
        **at_hand
    )


def select(pool: Pool, method: Method, budget: Budget, **options: Any) -> Outcome:
    return selecting.select(*resolved(pool, method, budget, options))


def select_in_rounds(
    pool: Pool, method: Method, budget: Budget, recipe: Any = None, **options: Any
) -> Outcome:
    return iterate.select(*resolved(pool, method, budget, options), recipe)


def plan(
    pool: Pool,
    method: Method,
    budget: Budget,
    model: Any,
    store: Any,
    probe: bool = True,
    **options: Any,
) -> Plan:
    options |= {"model": model, "store": store}
    return planning.plan(*resolved(pool, method, budget, options), probe=probe)


def compute(signal: Signal, pool: Pool, **options: Any) -> Column:
    """One signal of every row, whatever its scores mean."""
    at_hand = {name: options.pop(name) for name in OF_CONTEXT & options.keys()}
    request = RunRequest(force=True, **options)
    return compute_all({signal.kind: signal}, pool, request, RunContext(**at_hand))[signal.kind]
