"""From finished cells to the table: means, intervals and verdicts, over the evaluation rows that
every model answered.

Arithmetic only; the statistics are in `thresher.stats.verdict`. Touches no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from thresher.compare.cell_files import Result
from thresher.compare.cells import FULL, RANDOM, Cell, Job, settings_of
from thresher.compare.table import Comparison, Line
from thresher.errors import StoreError
from thresher.stats.verdict import compare_to_random, mean_over_seeds


def judge_cells(
    job: Job, done: Sequence[tuple[Cell, tuple[Result, np.ndarray, np.ndarray]]]
) -> Comparison:
    """The comparison. `done`: each cell with what `read_cell` gives. Raises StoreError where no row
    can be judged by."""
    arms: dict[tuple[str, str], list[tuple[Result, np.ndarray]]] = {}
    answered = np.logical_and.reduce([np.isfinite(rows) for _, (_, rows, _) in done])
    notes = []
    if not answered.all():
        notes.append(
            f"{int((~answered).sum()):,} rows of --eval failed under some model; verdicts are on "
            "the others."
        )
    if not answered.any():
        raise StoreError(
            "No row of --eval was answered under every model, so nothing can be compared."
        )
    image = done[0][1][2][answered]
    for cell, (result, rows, _) in done:
        arms.setdefault((cell.method, cell.budget), []).append((result, rows[answered]))
    scores = {key: np.stack([s for _, s in arm]) for key, arm in arms.items()}
    whole = scores.get((FULL, "100%"))
    whole_seconds = (
        _mean([r.seconds_training for r, _ in arms[FULL, "100%"]]) if whole is not None else None
    )
    lines = []
    for (method, budget), arm in arms.items():
        results = [r for r, _ in arm]
        verdict = None
        if method not in (RANDOM, FULL):
            verdict = compare_to_random(
                scores[method, budget], scores[RANDOM, budget], image, whole
            )
        share = (
            None
            if whole is None or not whole.mean()
            else 100 * float(scores[method, budget].mean() / whole.mean())
        )
        training = _mean([r.seconds_training for r in results])
        size = round(_mean([r.rows for r in results]))
        if verdict is not None and size != round(_mean([r.rows for r, _ in arms[RANDOM, budget]])):
            notes.append(f"{method} gave {size:,} rows at {budget}, not as many as random had.")
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
                None if whole_seconds is None or method == FULL else whole_seconds - training,
            )
        )
    judged = [x for x in lines if x.verdict is not None]
    if job.seeds == 1:
        notes.append(
            "One seed: the spread over seeds is assumed, not measured. Give --seeds 3 or more."
        )
    if len(judged) > 4:
        notes.append(
            f"{len(judged)} verdicts at 95%: about 1 in 20 would call a mere random draw better "
            "or worse."
        )
    about = {
        "pool": str(job.pool.path),
        "eval": str(job.test.path),
        "model": {"name": job.model.name, "identity": asdict(job.model.identity)},
        "recipe": {**asdict(job.recipe), "seed": "as the cell"},
        "equal": job.equal,
        "seeds": job.seeds,
        "eval_rows": int(answered.sum()),
        "settings": {name: settings_of(m) for name, m in job.methods.items()},
    }
    return Comparison([r for _, (r, _, _) in done], lines, notes, about)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
