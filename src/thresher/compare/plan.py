"""The cost of a comparison before it runs: cells to compute, rows to train on, rows to score, and
the approximate time.

Opens the model only to measure it on 64 rows (`probe`). Writes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.compare import FULL, Cell, Job, is_finished
from thresher.selection.cost import PROBE_ROWS
from thresher.selection.plan import plan as plan_selection
from thresher.selection.saving import TRAINING_PASSES
from thresher.selection.task import SelectionTask
from thresher.types import Rows

if TYPE_CHECKING:
    from thresher.engine import RunContext

ANSWER_PASSES = 2.0  # cost of answering a question relative to scoring a pool row


@dataclass(frozen=True)
class CellsPlan:
    """One method at one budget, over all seeds."""

    method: str
    budget: str
    rows: int
    seeds: int
    done: int  # finished cells
    training_rows: int  # of unfinished cells: rows x epochs


@dataclass(frozen=True)
class ComparePlan:
    """Totals over all unfinished cells; `hours` is None if nothing was measured.

    devices: number of processes on hardware of their own, each of which computes one cell at a
        time; `hours` are of all together.
    """

    cells: tuple[CellsPlan, ...]
    unfinished: int
    to_score: int  # rows to score for selections, at most
    own_training_rows: int  # rows that methods train their own models on, at most
    training_rows: int
    answers: int
    hours: float | None
    devices: int = 1


def plan(
    job: Job, context: RunContext, out: str | Path, *, probe: bool = True, devices: int = 1
) -> ComparePlan:
    """Plan a comparison.

    Arguments:
        job: the comparison.
        context: the store, models and progress.
        out: the folder of the comparison.
        probe: measure the model's speed.
        devices: as of `ComparePlan`.

    Raises what planning a selection raises.
    """
    cells = job.cells()
    missing = [c for c in cells if not is_finished(Path(out), c)]
    by_line: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        by_line.setdefault((cell.method, cell.budget), []).append(cell)
    cell_plans = []
    for (method, budget), group in by_line.items():
        unfinished = [c for c in group if c in missing]
        cell_plans.append(
            CellsPlan(
                method,
                budget,
                group[0].rows,
                len(group),
                len(group) - len(unfinished),
                sum(map(_training_rows, unfinished)),
            )
        )
    to_score, own_training_rows = _scoring_and_training_rows(job, missing, context)
    training = sum(p.training_rows for p in cell_plans)
    answers = len(missing) * len(job.test)
    hours = None
    if probe and missing:
        # a model that a method trains is trained by one process, and the others wait for it
        passes = TRAINING_PASSES * own_training_rows + to_score / devices
        asked = ANSWER_PASSES * len(job.test)
        each = [TRAINING_PASSES * _training_rows(cell) + asked for cell in missing]
        hours = _seconds_per_row(job) * (passes + _longest(each, devices)) / 3600
    return ComparePlan(
        tuple(cell_plans),
        len(missing),
        to_score,
        own_training_rows,
        training,
        answers,
        hours,
        devices,
    )


def _longest(cells: Sequence[float], devices: int) -> float:
    """The cost of the device that has most to do, where each takes the next cell when it is free.

    >>> _longest([3, 1, 1, 4], 2)
    6

    Arguments:
        cells: the cost of each, in the order in which they are computed.
        devices: at least 1.
    """
    busy: list[float] = [0] * devices  # until when
    for cost in cells:
        heapq.heapreplace(busy, busy[0] + cost)
    return max(busy)


def _training_rows(cell: Cell) -> int:
    """Rows that one training reads, over all its epochs."""
    r = cell.recipe
    return (
        r.steps * r.batch * r.accumulation if r.steps is not None else round(r.epochs * cell.rows)
    )


def _scoring_and_training_rows(
    job: Job, missing: list[Cell], context: RunContext
) -> tuple[int, int]:
    """(rows to score, rows to train the methods' own models on); what several cells share counts
    once."""
    scores: dict[tuple[str, int], int] = {}
    models: dict[str, int] = {}
    for cell in missing:
        if cell.method == FULL:
            continue
        method, budget = job.methods[cell.method], Rows.of(cell.rows)
        request, target = replace(job.request, seed=cell.seed), job.target_of(cell.method)
        task = SelectionTask(job.pool, method, budget, request, target)
        p = plan_selection(task, job.context_of(cell.method, context), probe=False)
        for s in p.signals:
            key = (s.fingerprint, cell.seed if s.upper_bound else -1)
            scores[key] = max(scores.get(key, 0), s.passes)
        models |= {t.fingerprint: round((t.rows or 0) * t.passes) for t in p.trainings}
    return sum(scores.values()), sum(models.values())


def _seconds_per_row(job: Job) -> float:
    rows = job.usable[:: max(len(job.usable) // PROBE_ROWS, 1)][:PROBE_ROWS]
    measured = job.model.open().probe(job.pool.samples(rows), job.pool)
    return float(measured.seconds) / len(rows)
