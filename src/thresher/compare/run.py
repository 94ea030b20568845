"""Computes the missing cells one after the other (select, train, evaluate), then summarises all of
them.

Training and evaluation are injected. A killed cell resumes from the store and the training's
checkpoints. Writes into `out` and the store only.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.compare.cell_files import (
    Result,
    chosen_rows,
    copy_cell,
    delete_cell,
    read_cell,
    work_folder,
    write_cell,
)
from thresher.compare.cells import FULL, RANDOM, Cell, Job
from thresher.compare.output import write_comparison
from thresher.compare.summary import summarise_cells
from thresher.compare.table import Comparison
from thresher.engine.graph import signals_of, target_signals_of
from thresher.engine.servers import check_servers, servers_of
from thresher.request.spelling import as_flag_of
from thresher.selection import select as run
from thresher.selection.target import leaks, needs_target
from thresher.selection.task import SelectionTask
from thresher.storage.atomic import remove_stale
from thresher.storage.checksums import CorruptFile
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_folder
from thresher.training.registry import bounds_of
from thresher.types import Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.engine import RunContext
    from thresher.pools import Pool
    from thresher.storage.columns import Store


class EvaluationResult(Protocol):
    """The part of `evaluation.Evaluation` that is used here."""

    @property
    def accuracy(self) -> float: ...  # 0 to 1
    @property
    def macro(self) -> float: ...
    @property
    def rows(
        self,
        # `correct`, null where `error` is not ""; `image`: rows of one image share a number
    ) -> pa.Table: ...


class Evaluate(Protocol):
    """`evaluation.evaluate`, with the settings of a comparison applied."""

    def __call__(
        self, model: ModelHandle, pool: Pool, *, store: Store, progress: Progress | None = None
    ) -> EvaluationResult: ...


def compare(
    job: Job,
    context: RunContext,
    out: str | Path,
    *,
    evaluate: Evaluate,
    keep_models: bool = False,
    report: Callable[[str], None] | None = None,
) -> Comparison:
    """Compute the missing cells and summarise. Writes compare.json and compare.svg into `out`.

    One comparison at a time in `out`: another one waits.

    Arguments:
        job: the comparison.
        context: the store, models, trainer and progress.
        out: the folder of the comparison.
        evaluate: evaluates a model.
        keep_models: keep the trained models.
        report: called with a message when a cell begins.

    Raises what selecting, training and evaluating raise.
    """
    out = check_folder(out)
    with folder_lock(out, "makes cells of a comparison here", context.progress):
        remove_stale(out / "cells", locked=True)
        return _run_missing_cells(_CellRunner(job, context, out, evaluate, keep_models), report)


def _run_missing_cells(runner: _CellRunner, report: Callable[[str], None] | None) -> Comparison:
    job, out = runner.job, runner.out
    cells = job.cells()
    missing = [c for c in cells if not _is_finished(out, c, report)]
    if missing:
        for note in check_leaks(job, runner.context):
            if report is not None:
                report(note)
        _check_servers(job, runner.context, missing)
    if not runner.keep_models:
        for cell in cells:  # left over from a run that was killed after finishing its cell
            if cell not in missing:
                shutil.rmtree(work_folder(out, cell), ignore_errors=True)
    for i, cell in enumerate(missing):
        if report is not None:
            report(f"{i + 1} of {len(missing)}: {cell.method} {cell.budget}, seed {cell.seed}")
        runner.run_cell(cell)
    finished = [(c, cell_data) for c in cells if (cell_data := read_cell(out, c)) is not None]
    assert len(finished) == len(cells), "a finished cell vanished"
    comparison = summarise_cells(job, finished, _cells_with_random_rows(job, out, cells))
    write_comparison(comparison, out)
    return comparison


def _check_servers(job: Job, context: RunContext, missing: Sequence[Cell]) -> None:
    """Raise ServerError, before anything is trained, if a server does not answer that the method of
    a missing cell will ask."""
    methods = dict.fromkeys(cell.method for cell in missing if cell.method != FULL)
    for name in methods:
        used, method = job.context_of(name, context), job.methods[name]
        signals = {
            **target_signals_of(method, used, seed=0),
            **signals_of(method, used, seed=0, budget=1),
        }
        check_servers(servers_of(signals, used))


def _is_finished(out: Path, cell: Cell, report: Callable[[str], None] | None) -> bool:
    """Whether a cell is finished. A damaged one is deleted and counts as missing."""
    try:
        return read_cell(out, cell) is not None
    except CorruptFile as e:
        if report is not None:
            report(
                f"{cell.method} {cell.budget}, seed {cell.seed} is damaged and is computed again "
                f"({e})"
            )
        delete_cell(out, cell)
        return False


def _cells_with_random_rows(job: Job, out: Path, cells: Sequence[Cell]) -> set[str]:
    """Fingerprints of the finished cells whose method selected the same rows as random, as winnow's
    guard may."""
    random = {(c.budget, c.seed): c for c in cells if c.method == RANDOM}
    return {
        cell.fingerprint
        for cell in cells
        if cell.method not in (RANDOM, FULL)
        and _same_rows(
            chosen_rows(out, cell, job.pool),
            chosen_rows(out, random[cell.budget, cell.seed], job.pool),
        )
    }


def _same_rows(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two subsets are equal, in any order: a training puts its rows in canonical order."""
    return len(first) == len(second) and np.array_equal(np.sort(first), np.sort(second))


@dataclass(frozen=True)
class _Chosen:
    rows: np.ndarray  # int64 [k], of the pool
    seconds: float = 0.0  # of the selection, with an empty store
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _CellRunner:
    job: Job
    context: RunContext
    out: Path
    evaluate: Evaluate
    keep_models: bool

    def run_cell(self, cell: Cell) -> None:
        job, model, work = self.job, self.job.model, work_folder(self.out, cell)
        context, progress, trainer = self.context, self.context.progress, self.context.trainer
        assert trainer is not None, "a comparison trains models"
        chosen = self._select(cell)
        if not self.keep_models and (twin := self._twin(cell, chosen.rows)) is not None:
            source, (same, _, _) = twin
            result = replace(
                same,
                method=cell.method,
                budget=cell.budget,
                seconds_selection=round(chosen.seconds, 3),
                notes=chosen.notes,
            )
            copy_cell(self.out, source, cell, result, chosen.rows, job.pool)
            return
        fitted = trainer.fit(
            model.name,
            job.pool,
            chosen.rows,
            cell.recipe,
            work / "model",
            device=trainer.device,
            progress=progress,
            image_pixels=bounds_of(model.identity),
        )
        answered = self.evaluate(
            trainer.open(work / "model"), job.test, store=context.store, progress=progress
        )
        table = answered.rows
        result = Result(
            cell.method,
            cell.budget,
            len(chosen.rows),
            cell.seed,
            float(answered.accuracy),
            float(answered.macro),
            round(chosen.seconds, 3),
            round(float(fitted.seconds), 3),
            chosen.notes,
        )
        write_cell(self.out, cell, result, table, chosen.rows, job.pool)
        if not self.keep_models:
            shutil.rmtree(work, ignore_errors=True)

    def _twin(
        self, cell: Cell, rows: np.ndarray
    ) -> tuple[Cell, tuple[Result, np.ndarray, np.ndarray]] | None:
        """A finished cell whose model was trained on the same rows with the same recipe, so that
        another training would give the same model; None if there is none.

        Arguments:
            rows: int64 [k], of the pool.
        """
        for other in self.job.cells():
            if other == cell or other.recipe != cell.recipe:
                continue
            found = read_cell(self.out, other)
            if found is not None and _same_rows(rows, chosen_rows(self.out, other, self.job.pool)):
                return other, found
        return None

    def _select(self, cell: Cell) -> _Chosen:
        job = self.job
        if cell.method == FULL:
            return _Chosen(job.usable)
        # leaks are looked for once, before the first cell; whether the scores mean anything is what
        # is measured, and the notes say where they do not
        request = replace(job.request, seed=cell.seed, force=True)
        task = SelectionTask(
            job.pool,
            job.methods[cell.method],
            Rows.of(cell.rows),
            request,
            job.target_of(cell.method),
            leaks_checked=True,
            usable_only=True,
        )
        outcome = run.select(task, job.context_of(cell.method, self.context))
        return _Chosen(
            outcome.rows,
            outcome.cost,
            tuple(note.spelled(as_flag_of(cell.method)) for note in outcome.notes),
        )


def check_leaks(job: Job, context: RunContext) -> tuple[str, ...]:
    """Check that pool, validation set and evaluation set ask different questions.

    Exact copies always, near ones where the extra `duplicates` is installed. Returns notes about
    rows that could not be compared. Raises PoolError.

    Arguments:
        job: the comparison.
        context: its progress is used.
    """
    remedy = (
        f". `thresher doctor {shlex.quote(str(job.pool.path))} --eval FILE --fix COPY` writes a "
        "copy without them"
    )
    pairs = [(job.pool, job.test, ("pool", "evaluation"), remedy)]
    if job.target is not None and any(
        _needs_validation(job, context, name) for name in job.methods
    ):
        pairs.append((job.pool, job.target, ("pool", "validation"), remedy))
        pairs.append((job.target, job.test, ("validation set", "evaluation"), ""))
    notes = [
        leaks(rows, other, "refuse", context.progress, names=names, instead=instead, near=None)[1]
        for rows, other, names, instead in pairs
    ]
    return tuple(filter(None, notes))


def _needs_validation(job: Job, context: RunContext, method: str) -> bool:
    return needs_target(job.methods[method], job.context_of(method, context))
