"""The rows that a model answered wrongly, which a teacher then analyses. Arithmetic on a
rationale's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal


@dataclass(frozen=True)
class Wrong:
    rationale: Signal
    """Field `right`."""

    kind: ClassVar[str] = "wrong"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (Field("chosen", "bool", "the answer is not right"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        return {"chosen": ~np.asarray(inputs["rationale"]["right"], bool)}
