"""Computes cells: select rows, train on them, evaluate.

Training and evaluation are injected. A killed cell resumes from the store and the training's
checkpoints. Writes into the comparison's folder and the store only.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.compare.cell_files import (
    Result,
    chosen_rows,
    copy_cell,
    read_cell,
    work_folder,
    write_cell,
)
from thresher.compare.cells import FULL, Cell, Job
from thresher.compare.queue import CellQueue
from thresher.console.formatting import pluralize
from thresher.fingerprint import fingerprint
from thresher.request.spelling import as_flag_of
from thresher.selection import select as run
from thresher.selection.task import SelectionTask
from thresher.storage.checksums import CorruptFile
from thresher.training.registry import bounds_of
from thresher.types import Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.engine import RunContext
    from thresher.pools import Pool
    from thresher.storage.columns import Store

Report = Callable[[str], None]


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


@dataclass(frozen=True)
class _Chosen:
    rows: np.ndarray  # int64 [k], of the pool
    seconds: float = 0.0  # of the selection, with an empty store
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellRunner:
    """Computes cells of one comparison.

    job: the comparison.
    context: the store, models, trainer and progress.
    out: the folder of the comparison.
    evaluate: evaluates a model.
    keep_models: keep the trained models.
    """

    job: Job
    context: RunContext
    out: Path
    evaluate: Evaluate
    keep_models: bool = False
    _chosen: dict[str, _Chosen] = field(default_factory=dict)  # of cells that were put off

    def run_missing(
        self,
        report: Report,
        finished: Callable[[], None] = lambda: None,
        total: int | None = None,
    ) -> None:
        """Compute the cells that are missing and that no other process computes, until all are
        finished; waits for those of others.

        Arguments:
            report: receives a message when a cell begins, or is damaged.
            finished: called when this process has finished one.
            total: number of missing cells, for the messages; None: of those that are missing now.
        """
        waits = False

        def wait(missing: int) -> None:
            nonlocal waits
            progress = self.context.progress
            if progress is not None:
                progress.advance(0)  # ends the work where it was asked to stop
                if not waits:
                    cells = pluralize(missing, "cell")
                    progress.say(f"Waiting for {cells} that other processes compute.")
            waits = True

        def damaged(cell: Cell, error: CorruptFile) -> None:
            report(f"{name_of(cell)} is damaged and is computed again ({error})")

        with CellQueue(self.out, self.job.cells(), damaged, wait, total) as queue:
            while (taken := queue.next()) is not None:
                number, cell = taken
                waits = False
                if cell.fingerprint not in self._chosen:
                    report(f"{number} of {queue.total}: {name_of(cell)}")
                if self._run(cell, queue):
                    finished()

    def _run(self, cell: Cell, queue: CellQueue) -> bool:
        """Compute a cell. False: it was put off, because another process trains on its rows."""
        job, work = self.job, work_folder(self.out, cell)
        if cell.fingerprint not in self._chosen:
            self._chosen[cell.fingerprint] = self._select(cell)
        chosen = self._chosen[cell.fingerprint]
        if not self.keep_models:
            if not queue.claim_training(cell, _training_key(cell, chosen.rows)):
                return False
            if (twin := self._twin(cell, chosen.rows)) is not None:
                source, same = twin
                result = replace(
                    same,
                    method=cell.method,
                    budget=cell.budget,
                    seconds_selection=round(chosen.seconds, 3),
                    notes=chosen.notes,
                )
                copy = (self.out, source, cell, result, chosen.rows, job.pool)
                queue.publish(cell, partial(copy_cell, *copy))
                return True
        result, table = self._train_and_evaluate(cell, chosen, work / "model")
        written = (self.out, cell, result, table, chosen.rows, job.pool)
        queue.publish(cell, partial(write_cell, *written))
        if not self.keep_models:
            shutil.rmtree(work, ignore_errors=True)
        return True

    def _train_and_evaluate(
        self, cell: Cell, chosen: _Chosen, folder: Path
    ) -> tuple[Result, pa.Table]:
        job, model, context = self.job, self.job.model, self.context
        trainer, progress = context.trainer, context.progress
        assert trainer is not None, "a comparison trains models"
        fitted = trainer.fit(
            model.name,
            job.pool,
            chosen.rows,
            cell.recipe,
            folder,
            device=trainer.device,
            progress=progress,
            image_pixels=bounds_of(model.identity),
        )
        answered = self.evaluate(
            trainer.open(folder), job.test, store=context.store, progress=progress
        )
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
        return result, answered.rows

    def _twin(self, cell: Cell, rows: np.ndarray) -> tuple[Cell, Result] | None:
        """A finished cell whose model was trained on the same rows with the same recipe, so that
        another training would give the same model; None if there is none.

        Arguments:
            rows: int64 [k], of the pool.
        """
        for other in self.job.cells():
            if other == cell or other.recipe != cell.recipe:
                continue
            found = read_cell(self.out, other)
            if found is not None and same_rows(rows, chosen_rows(self.out, other, self.job.pool)):
                return other, found[0]
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


def name_of(cell: Cell) -> str:
    """A cell in messages, such as `winnow 10%, seed 0`."""
    return f"{cell.method} {cell.budget}, seed {cell.seed}"


def same_rows(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two subsets are equal, in any order: a training puts its rows in canonical order.

    Arguments:
        first: int64 [k].
        second: int64 [m].
    """
    return len(first) == len(second) and np.array_equal(np.sort(first), np.sort(second))


def _training_key(cell: Cell, rows: np.ndarray) -> bytes:
    """32 bytes that are equal for trainings on the same rows of one pool with the same recipe."""
    key = hashlib.sha256(fingerprint(cell.recipe).encode())
    key.update(np.sort(rows).astype("<i8").tobytes())
    return key.digest()
