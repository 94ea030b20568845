"""Random sample of rows for training a model before the pool is scored (MLLM-Selector's seed)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal, seeded_ties


@dataclass(frozen=True)
class SeedRows:
    """`fraction` of the pool's rows, rounded, at least 1 and at most `most`.

    They are the first rows in the order of a seeded hash, as in `--method random` with this seed.
    """

    fraction: float
    """0 < fraction <= 1, of the rows that can be used."""
    seed: int
    most: int | None = None
    """Maximum number of rows; None: no limit."""

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
