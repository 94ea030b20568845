"""What a comparison would cost, before it is paid: cells to make, rows to train on, rows to score,
and about how long.

Opens the model only to measure it on 64 rows (`probe`). Writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.compare import FULL, Cell, Job, is_made
from thresher.selection.cost import PROBE_ROWS
from thresher.selection.plan import plan as plan_selection
from thresher.selection.saving import TRAINING_PASSES
from thresher.selection.task import SelectionTask
from thresher.types import Budget

if TYPE_CHECKING:
    from thresher.engine import RunContext

ANSWER_PASSES = 2.0  # answering a question against scoring a pool row: short answers, batched


@dataclass(frozen=True)
class CellsPlan:
    """One method at one budget."""

    method: str
    budget: str
    rows: int
    seeds: int
    done: int  # cells that are finished
    training_rows: int  # of those to be made: rows x passes


@dataclass(frozen=True)
class ComparePlan:
    """Sums over all cells that are not finished; `hours` None: nothing was measured."""

    cells: tuple[CellsPlan, ...]
    to_make: int
    to_score: int  # rows through the model for selecting, at most
    seed_rows: int  # rows that methods train models of their own on
    training_rows: int
    answers: int
    hours: float | None


def plan(job: Job, context: RunContext, out: str | Path, *, probe: bool = True) -> ComparePlan:
    """Raises what planning a selection raises."""
    cells = job.cells()
    missing = [c for c in cells if not is_made(Path(out), c)]
    kinds: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        kinds.setdefault((cell.method, cell.budget), []).append(cell)
    parts = []
    for (method, budget), group in kinds.items():
        due = [c for c in group if c in missing]
        parts.append(
            CellsPlan(
                method,
                budget,
                group[0].rows,
                len(group),
                len(group) - len(due),
                sum(map(_rows_seen, due)),
            )
        )
    to_score, seed_rows = _selecting(job, missing, context)
    training = sum(p.training_rows for p in parts)
    answers = len(missing) * len(job.test)
    hours = None
    if probe and missing:
        hours = (
            _seconds_a_row(job)
            * (TRAINING_PASSES * (training + seed_rows) + to_score + ANSWER_PASSES * answers)
            / 3600
        )
    return ComparePlan(tuple(parts), len(missing), to_score, seed_rows, training, answers, hours)


def _rows_seen(cell: Cell) -> int:
    """By one training."""
    r = cell.recipe
    return (
        r.steps * r.batch * r.accumulation if r.steps is not None else round(r.epochs * cell.rows)
    )


def _selecting(job: Job, missing: list[Cell], context: RunContext) -> tuple[int, int]:
    """(rows to score, rows to train seed models on); what several cells share counts once."""
    scores: dict[tuple[str, int], int] = {}
    models: dict[str, int] = {}
    for cell in missing:
        if cell.method == FULL:
            continue
        method, budget = job.methods[cell.method], Budget(str(cell.rows))
        request, target = replace(job.request, seed=cell.seed), job.target_of(cell.method)
        task = SelectionTask(job.pool, method, budget, request, target)
        p = plan_selection(task, job.context_of(cell.method, context), probe=False)
        for s in p.signals:
            key = (s.fingerprint, cell.seed if s.upper_bound else -1)
            scores[key] = max(scores.get(key, 0), s.passes)
        models |= {t.fingerprint: round(t.rows * t.passes) for t in p.trainings}
    return sum(scores.values()), sum(models.values())


def _seconds_a_row(job: Job) -> float:
    rows = job.usable[:: max(len(job.usable) // PROBE_ROWS, 1)][:PROBE_ROWS]
    measured = job.model.open().probe(job.pool.samples(rows), job.pool)
    return float(measured.seconds) / len(rows)
