"""Evaluates a model on the questions by its generated answers and by candidate likelihood.

The main metric is the normalised generated answer. Rows with recognised candidates (yes and no,
lettered options) are also scored by the candidates' likelihood: column `by_choice`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from thresher.backends import ModelHandle
from thresher.console.progress import Progress
from thresher.evaluation import evaluate
from thresher.pools import Pool
from thresher.storage.columns import Store


@dataclass(frozen=True)
class Answered:
    accuracy: float
    macro: float
    rows: pa.Table


@dataclass(frozen=True)
class Ask:
    """The `evaluate` function of a comparison. `both`: score by candidate likelihood too."""

    both: bool

    def __call__(
        self, model: ModelHandle, pool: Pool, *, store: Store, progress: Progress | None = None
    ) -> Answered:
        generated = evaluate(model, pool, score="generate", store=store, progress=progress)
        rows = generated.rows
        if self.both:
            chose = evaluate(model, pool, score="auto", store=store, progress=progress).rows
            marks = [
                right if how == "choice" else None
                for how, right in zip(
                    chose["scored"].to_pylist(), chose["correct"].to_pylist(), strict=True
                )
            ]
            rows = rows.append_column("by_choice", pa.array(marks, pa.bool_()))
        return Answered(generated.accuracy, generated.macro, rows)
