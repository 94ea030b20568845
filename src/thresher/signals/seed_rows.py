"""A random sample of rows to train a model on before the pool is scored (MLLM-Selector's
seed rows)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal, seeded_ties


@dataclass(frozen=True)
class SeedRows:
    """The first rows in the order of a seeded hash: `fraction` of the pool, rounded, at most
    `most`, at least 1.

    It is the order of `--method random` with the same seed.
    """

    fraction: float
    """0 < fraction <= 1, of the rows that can be used."""
    seed: int
    most: int | None = None
    """Most rows; None: no limit."""

    kind: ClassVar[str] = "seed_rows"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the seed model is trained on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        n = len(inputs)
        count = max(round(self.fraction * n), 1)
        if self.most is not None:
            count = min(count, max(self.most, 1))
        chosen = np.zeros(n, bool)
        chosen[np.argsort(seeded_ties(inputs.digest, self.seed), kind="stable")[:count]] = True
        return {"chosen": chosen}
