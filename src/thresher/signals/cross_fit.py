"""Cross-fitted loss: two seed models, so that no row is scored by a model trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal, seeded_ties


@dataclass(frozen=True)
class CrossRows:
    """One of two disjoint random samples, the training rows of a seed model.

    Rows `part`·m to (`part` + 1)·m in the order of a seeded hash, with m = `fraction` of the
    distinct rows, rounded, at least 1. Duplicates are sampled together. If all rows are duplicates
    of one row, both samples consist of it.
    """

    fraction: float
    """Share of the usable rows, 0 < fraction <= 1/2."""
    seed: int
    part: int
    """0 or 1."""
    least: int = 0
    """Minimum of m, itself limited to a quarter of the distinct rows: a training of few steps has
    no effect."""

    kind: ClassVar[str] = "cross_rows"
    version: ClassVar[int] = 1
    added: ClassVar[Mapping[str, Any]] = {"least": 0}
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the seed model of this part is trained on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        digest, copy = np.unique(inputs.digest, return_inverse=True)
        m = max(round(self.fraction * len(digest)), min(self.least, len(digest) // 4), 1)
        order = np.argsort(seeded_ties(digest, self.seed), kind="stable")
        chosen = np.zeros(len(digest), bool)
        part = self.part if len(digest) > 1 else 0
        chosen[order[part * m : (part + 1) * m]] = True
        return {"chosen": chosen[copy]}


@dataclass(frozen=True)
class CrossFittedLoss:
    """The loss `second` for the training rows of the first model, `first` for all other rows."""

    rows: Signal
    """Bool field `chosen`: the training rows of the first model."""
    first: Signal
    """Field `nll`, for all rows."""
    second: Signal
    """Field `nll`, at least for the training rows of the first model."""

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
