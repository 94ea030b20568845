"""What training a model costs on this machine: measured by training a copy on some rows of the
pool. The copy is deleted.

`cost` measures scoring in the same way. A trainer that names no packages to import (a test's) is
not measured.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thresher.console.peak_memory import device_peak_bytes, peak_bytes, reset_device_peak
from thresher.engine import ColumnEngine, RunContext
from thresher.errors import ThresherError
from thresher.storage.atomic import temporary_path
from thresher.training.registry import bounds_of
from thresher.types import ModelIdentity

TRAINED_ROWS = 64  # four batches of the default recipe


@dataclass(frozen=True)
class TrainingCost:
    """The cost of a training.

    import_seconds: of the packages, once in a process.
    start_seconds: of opening the base and saving the result.
    row_seconds: of a row, in one pass over the rows.
    peak_bytes: most memory of the process, or of one GPU; None if it is not known.
    """

    import_seconds: float
    start_seconds: float
    row_seconds: float
    peak_bytes: int | None

    def seconds(self, rows: int, passes: float) -> float:
        """Of one training, without importing packages.

        Arguments:
            rows: that the model is trained on.
            passes: over these rows.
        """
        return self.start_seconds + self.row_seconds * rows * passes


MeasureTraining = Callable[[ModelIdentity, Any, int], TrainingCost | None]
"""Base, recipe, number of rows -> the cost of training; None: not measured."""


class TrainingProbe:
    """Measures trainings, each base once.

    Arguments:
        engine: of the pool; its model is released.
        context: the store and the trainer.

    Attributes:
        problems: why trainings could not be measured.
    """

    def __init__(self, engine: ColumnEngine, context: RunContext) -> None:
        self._engine, self._context = engine, context
        self._found: dict[ModelIdentity, TrainingCost | None] = {}
        self.problems: list[str] = []

    def __call__(self, base: ModelIdentity, recipe: Any, rows: int) -> TrainingCost | None:
        if base not in self._found:
            try:
                self._found[base] = self._measure(base, recipe, rows)
            except ThresherError as e:
                self._found[base] = None
                self.problems.append(f"A training was tried on a few rows and failed: {e.message}")
        return self._found[base]

    def _measure(self, base: ModelIdentity, recipe: Any, rows: int) -> TrainingCost | None:
        engine, context = self._engine, self._context
        trainer = context.trainer
        if trainer is None or trainer.import_packages is None:
            return None
        usable = np.flatnonzero(engine.eligible.mask)  # int64 [u], positions
        some = usable[np.argsort(engine.numbering.ties[usable], kind="stable")]
        some = some[: min(rows, TRAINED_ROWS)]
        engine.close()
        reset_device_peak()
        folder = temporary_path(context.store.root / "models")
        began = time.perf_counter()
        trainer.import_packages()
        imported = time.perf_counter()
        try:
            result = trainer.fit(
                engine.models.handle(base).name,
                engine.pool,
                engine.numbering.pool_rows[some],
                replace(recipe, epochs=1.0, steps=None),
                folder,
                device=trainer.device,
                image_pixels=bounds_of(base),
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        elapsed = time.perf_counter() - imported
        device = device_peak_bytes()
        return TrainingCost(
            imported - began,
            max(elapsed - result.seconds, 0.0),
            result.seconds / len(some),
            peak_bytes() if device is None else device,
        )
