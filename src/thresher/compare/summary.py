"""Means, intervals and verdicts from finished cells, over the evaluation rows that every model
answered.

Arithmetic only; the statistics are in `thresher.stats.verdict`. Touches no files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict

import numpy as np

from thresher.compare.cell_files import Result
from thresher.compare.cells import FULL, RANDOM, Cell, Job, identities_of, settings_of
from thresher.compare.table import Comparison, Line
from thresher.errors import StoreError, opt
from thresher.stats.verdict import compare_to_random, mean_over_seeds
from thresher.types import Note


def summarise_cells(
    job: Job,
    finished: Sequence[tuple[Cell, tuple[Result, np.ndarray, np.ndarray]]],
    with_random_rows: Collection[str] = (),
) -> Comparison:
    """Summarise the finished cells as a comparison.

    Arguments:
        job: the comparison.
        finished: each cell with the result of `read_cell`.
        with_random_rows: fingerprints of the cells whose method selected the rows of random.

    Raises StoreError if no row was answered by all models.
    """
    arms: dict[tuple[str, str], list[tuple[Result, np.ndarray]]] = {}
    answered = np.logical_and.reduce([np.isfinite(rows) for _, (_, rows, _) in finished])
    notes = []
    if not answered.all():
        notes.append(
            f"{int((~answered).sum()):,} rows of {opt('eval')} failed under some model; verdicts "
            "are on the others."
        )
    if not answered.any():
        raise StoreError(
            f"No row of {opt('eval')} was answered under every model, so nothing can be compared."
        )
    image = finished[0][1][2][answered]
    as_random: dict[tuple[str, str], list[int]] = {}
    for cell, _ in finished:
        if cell.fingerprint in with_random_rows:
            as_random.setdefault((cell.method, cell.budget), []).append(cell.seed)
    for cell, (result, rows, _) in finished:
        arms.setdefault((cell.method, cell.budget), []).append((result, rows[answered]))
    scores = {key: np.stack([s for _, s in arm]) for key, arm in arms.items()}
    full_scores = scores.get((FULL, "100%"))
    full_seconds = (
        _mean([r.seconds_training for r, _ in arms[FULL, "100%"]])
        if full_scores is not None
        else None
    )
    lines = []
    for (method, budget), arm in arms.items():
        results = [r for r, _ in arm]
        verdict = None
        if method not in (RANDOM, FULL):
            verdict = compare_to_random(
                scores[method, budget], scores[RANDOM, budget], image, full_scores
            )
        share = (
            None
            if full_scores is None or not full_scores.mean()
            else 100 * float(scores[method, budget].mean() / full_scores.mean())
        )
        training = _mean([r.seconds_training for r in results])
        size = round(_mean([r.rows for r in results]))
        if verdict is not None and size != round(_mean([r.rows for r, _ in arms[RANDOM, budget]])):
            notes.append(
                f"{method} selected {size:,} rows at {budget}, a different number than random."
            )
        lines.append(
            Line(
                method,
                budget,
                size,
                mean_over_seeds(scores[method, budget], image),
                share,
                verdict,
                _mean([r.seconds_selection for r in results]),
                training,
                None if full_seconds is None or method == FULL else full_seconds - training,
                tuple(as_random.get((method, budget), ())),
            )
        )
    compared = [x for x in lines if x.verdict is not None]
    if job.seeds == 1:
        notes.append(
            "One seed: the spread over seeds is assumed, not measured. "
            f"Give {opt('seeds', 3)} or more."
        )
    if len(compared) > 4:
        notes.append(
            f"{len(compared)} verdicts at 95%: about 1 in 20 calls a purely random subset better "
            "or worse."
        )
    metadata = {
        "pool": str(job.pool.path),
        "eval": str(job.test.path),
        "fingerprints": identities_of(job),
        "model": {"name": job.model.name, "identity": asdict(job.model.identity)},
        "recipe": {**asdict(job.recipe), "seed": "as the cell"},
        "equal": job.equal,
        "seeds": job.seeds,
        "eval_rows": int(answered.sum()),
        "settings": {name: settings_of(m) for name, m in job.methods.items()},
    }
    found = [Note("comparison", text) for text in notes]
    return Comparison([r for _, (r, _, _) in finished], lines, found, metadata)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
