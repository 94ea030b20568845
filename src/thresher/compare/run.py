"""A comparison from its beginning to its files: checks, the missing cells, the summary of all.

Writes into the comparison's folder and the store only.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.compare.cell_files import chosen_rows, is_finished, read_cell, work_folder
from thresher.compare.cell_runner import CellRunner, Evaluate, Report, same_rows
from thresher.compare.cells import FULL, RANDOM, Cell, Job
from thresher.compare.folder import refuse_other_contents
from thresher.compare.output import write_comparison
from thresher.compare.summary import summarise_cells
from thresher.compare.table import Comparison
from thresher.console.formatting import pluralize
from thresher.engine.graph import signals_of, target_signals_of
from thresher.engine.servers import check_servers, servers_of
from thresher.engine.workers import wait_until
from thresher.errors import StoreError
from thresher.selection.target import leaks, needs_target
from thresher.storage.atomic import remove_stale
from thresher.storage.writable import check_folder

if TYPE_CHECKING:
    from thresher.console.progress import Progress
    from thresher.engine import RunContext
    from thresher.engine.workers import Workers
    from thresher.pools import Pool

VISIBLE_SECONDS = 90.0  # for a network file system to show what other machines have written


def compare(
    job: Job,
    context: RunContext,
    out: str | Path,
    *,
    evaluate: Evaluate,
    keep_models: bool = False,
    report: Report | None = None,
    note: Report | None = None,
) -> Comparison:
    """Compute the missing cells and summarise. Writes compare.json and compare.svg into `out`.

    Any number of processes may do so in one folder: each computes cells that no other one has, and
    summarises when all are finished.

    Arguments:
        job: the comparison.
        context: the store, models, trainer and progress; its workers, if there are any, compute
            the cells.
        out: the folder of the comparison.
        evaluate: evaluates a model.
        keep_models: keep the trained models.
        report: called with a message when a cell begins.
        note: called with remarks about the comparison as a whole.

    Raises what selecting, training and evaluating raise.
    """
    out, remark = check_folder(out), note or (lambda text: None)
    refuse_other_contents(out, job)
    remove_stale(out / "cells")
    cells = job.cells()
    missing = [cell for cell in cells if not is_finished(out, cell)]
    if missing:
        for text in check_leaks(job, context):
            remark(text)
        _check_servers(job, context, missing)
    else:
        remark(f"All cells ({len(cells):,}) were in {out} already: nothing was computed.")
    if not keep_models:
        for cell in cells:  # left over from a run that was killed after finishing its cell
            if cell not in missing:
                shutil.rmtree(work_folder(out, cell), ignore_errors=True)
    if missing and context.workers is not None:
        _wait_for(context.workers, out, cells, context.progress)
    elif missing:
        CellRunner(job, context, out, evaluate, keep_models).run_missing(
            report or (lambda text: None)
        )
    return _summarise(job, out, cells)


def _wait_for(
    workers: Workers, out: Path, cells: Sequence[Cell], progress: Progress | None
) -> None:
    """Wait until workers have finished all cells."""
    left = [cell for cell in cells if not is_finished(out, cell)]
    if progress is not None:
        progress.start("cells", len(cells), len(cells) - len(left))

    def done() -> bool:
        now = [cell for cell in left if not is_finished(out, cell)]
        if progress is not None and len(now) < len(left):
            progress.advance(len(left) - len(now))
        left[:] = now
        return not left

    try:
        wait_until(done, workers)
        deadline = time.monotonic() + VISIBLE_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise StoreError(
                    f"Workers have finished {pluralize(len(left), 'cell')} that cannot be seen in "
                    f"{out} from here. Run the same command again: what is missing is computed."
                )
            time.sleep(1)
    finally:
        if progress is not None:
            progress.finish()


def _summarise(job: Job, out: Path, cells: Sequence[Cell]) -> Comparison:
    finished = [(c, found) for c in cells if (found := read_cell(out, c)) is not None]
    assert len(finished) == len(cells), "a finished cell vanished"
    comparison = summarise_cells(job, finished, _cells_with_random_rows(job, out, cells))
    refuse_other_contents(out, job)  # of a process that ran at the same time
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


def _cells_with_random_rows(job: Job, out: Path, cells: Sequence[Cell]) -> set[str]:
    """Fingerprints of the finished cells whose method selected the same rows as random, as winnow's
    guard may."""
    random = {(c.budget, c.seed): c for c in cells if c.method == RANDOM}
    return {
        cell.fingerprint
        for cell in cells
        if cell.method not in (RANDOM, FULL)
        and same_rows(
            chosen_rows(out, cell, job.pool),
            chosen_rows(out, random[cell.budget, cell.seed], job.pool),
        )
    }


def check_leaks(job: Job, context: RunContext) -> tuple[str, ...]:
    """Check that pool, validation set and evaluation set ask different questions.

    Exact copies always, near ones where the extra `duplicates` is installed. Returns notes about
    rows that could not be compared. Raises PoolError.

    Arguments:
        job: the comparison.
        context: its progress is used.
    """
    pairs = [(job.pool, job.test, ("pool", "evaluation"), _remedy(job, job.test))]
    if job.target is not None and any(
        _needs_validation(job, context, name) for name in job.methods
    ):
        pairs.append((job.pool, job.target, ("pool", "validation"), _remedy(job, job.target)))
        pairs.append((job.target, job.test, ("validation set", "evaluation"), ""))
    notes = [
        leaks(rows, other, "refuse", context.progress, names=names, instead=instead, near=None)[1]
        for rows, other, names, instead in pairs
    ]
    return tuple(filter(None, notes))


def _remedy(job: Job, other: Pool) -> str:
    """The command that removes the rows of the pool that repeat questions of another one, as the
    end of a sentence."""
    pool, questions = (shlex.quote(str(rows.path)) for rows in (job.pool, other))
    return f". `thresher doctor {pool} --eval {questions} --fix COPY` writes a copy without them"


def _needs_validation(job: Job, context: RunContext, method: str) -> bool:
    return needs_target(job.methods[method], job.context_of(method, context))
