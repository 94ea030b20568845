"""Which rows a teacher is asked about, and which of those the models that learn from it never see.
Pool signals, pure numpy.

The sample is stratified: sources in alphabetical order, the rows of each in the order of a seeded
hash, and of that long list rows at even distances. So every source gives its share, rounded up or
down, and the same rows in another file order give the same sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal, seeded_ties

LEAST = 10
"""Rows in a sample, as far as the pool has them: fewer cannot be split into rows to learn from and
rows to check with."""

HELD_OUT = 5
"""One in so many rows of the sample is kept from training, to measure agreement on."""


@dataclass(frozen=True)
class TeacherSample:
    """`fraction` of the pool, rounded, at least `LEAST` rows."""

    fraction: float
    """0 < fraction <= 1, of the rows that can be used."""
    seed: int

    kind: ClassVar[str] = "teacher_sample"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the teacher is asked about this row"),
        Field("held_out", "bool", "it is, and nothing is trained on its answer"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        n = len(inputs)
        count = min(max(round(self.fraction * n), LEAST), n)
        names = sorted(range(len(inputs.source_names)), key=lambda i: inputs.source_names[i])
        place = np.empty(len(names), np.int64)
        place[names] = np.arange(len(names))
        order = np.lexsort((seeded_ties(inputs.digest, self.seed), place[inputs.source]))
        steps = np.arange(n + 1) * count // max(n, 1)
        taken = order[np.diff(steps) > 0]  # count rows at even distances
        chosen, held = np.zeros(n, bool), np.zeros(n, bool)
        chosen[taken] = True
        held[taken[HELD_OUT // 2 :: HELD_OUT]] = True
        return {"chosen": chosen, "held_out": held}


@dataclass(frozen=True)
class Learned:
    """The rows of a teacher's sample that models are trained on: those not held out, nor copies of
    one that is."""

    sample: TeacherSample

    kind: ClassVar[str] = "learned"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "models learn the teacher's answers on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"sample": self.sample}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        held = np.asarray(inputs["sample"]["held_out"], bool)
        return {"chosen": inputs["sample"]["chosen"] & ~np.isin(inputs.digest, inputs.digest[held])}
