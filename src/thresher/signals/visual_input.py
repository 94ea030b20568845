"""Whether a model is given an image or a video of a row. Known from reading the pool: no model,
nothing stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Field, Signal


@dataclass(frozen=True)
class VisualInput:
    """Whether a model that scores the row is given an image, or frames of a video."""

    kind: ClassVar[str] = "visual_input"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("given", "bool", "the row has an image, or a video whose frames are scored"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"given": np.asarray(facts["visual"], bool)}
