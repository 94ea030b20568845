"""A loss under models that were not trained on the row: two seed models, each of which scores what
the other was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal, seeded_ties


@dataclass(frozen=True)
class CrossRows:
    """Disjoint uniform draws: the rows from `part`·m to (`part` + 1)·m in the order of a seeded
    hash, m = `fraction` of the pool, rounded, at least 1. Copies of a row are drawn with it."""

    fraction: float
    """0 < fraction <= 1/2, of the rows that can be used."""
    seed: int
    part: int
    """0 or 1."""

    kind: ClassVar[str] = "cross_rows"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the seed model of this part is trained on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        digest, copy = np.unique(inputs.digest, return_inverse=True)
        m = max(round(self.fraction * len(digest)), 1)
        order = np.argsort(seeded_ties(digest, self.seed), kind="stable")
        chosen = np.zeros(len(digest), bool)
        chosen[order[self.part * m : (self.part + 1) * m]] = True
        return {"chosen": chosen[copy]}


@dataclass(frozen=True)
class CrossFittedLoss:
    """`first` for all rows but those that its model was trained on, and `second` for these."""

    rows: Signal
    """With a bool field `chosen`: what the first model was trained on."""
    first: Signal
    """With a field `nll`, of all rows."""
    second: Signal
    """With a field `nll`, of the rows that `rows` chooses at least."""

    kind: ClassVar[str] = "cross_fitted_loss"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("nll", "float32", "nats per answer token under a model that did not see the row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"rows": self.rows, "first": self.first, "second": self.second}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        seen = np.asarray(inputs["rows"]["chosen"], bool)
        nll = np.where(seen, inputs["second"]["nll"], inputs["first"]["nll"])
        return {"nll": nll.astype(np.float32)}
