"""The rows that a teacher answers for, and those of them that are held out from training. Pool
signals, pure numpy.

The sample is stratified (systematic sampling): sources in alphabetical order, the rows of each in
the order of a seeded hash, and of that list rows at even distances. So every source gives its
share, rounded up or down, and the same rows in another file order give the same sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal, seeded_ties

MIN_ROWS = 10
"""Fewest rows of a sample, as far as the pool has them: fewer cannot be split into training and
held-out rows."""

HELD_OUT = 5
"""One in this many rows of the sample is held out from training, to measure agreement."""


@dataclass(frozen=True)
class TeacherSample:
    """`fraction` of the pool, rounded, at least `MIN_ROWS` rows."""

    fraction: float
    """0 < fraction <= 1, of the rows that can be used."""
    seed: int

    kind: ClassVar[str] = "teacher_sample"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the teacher answers for this row"),
        Field("held_out", "bool", "it does, and nothing is trained on the answer"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        n = len(inputs)
        count = min(max(round(self.fraction * n), MIN_ROWS), n)
        names = sorted(range(len(inputs.source_names)), key=lambda i: inputs.source_names[i])
        rank = np.empty(len(names), np.int64)
        rank[names] = np.arange(len(names))
        order = np.lexsort((seeded_ties(inputs.digest, self.seed), rank[inputs.source]))
        steps = np.arange(n + 1) * count // max(n, 1)
        taken = order[np.diff(steps) > 0]  # count rows at even distances
        chosen, held = np.zeros(n, bool), np.zeros(n, bool)
        chosen[taken] = True
        held[taken[HELD_OUT // 2 :: HELD_OUT]] = True
        return {"chosen": chosen, "held_out": held}


@dataclass(frozen=True)
class Learned:
    """The rows of a teacher's sample that models are trained on: those that are neither held out
    nor copies of a held-out row."""

    sample: TeacherSample

    kind: ClassVar[str] = "learned"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "models are trained on the teacher's answers for this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"sample": self.sample}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        held = np.asarray(inputs["sample"]["held_out"], bool)
        return {"chosen": inputs["sample"]["chosen"] & ~np.isin(inputs.digest, inputs.digest[held])}
