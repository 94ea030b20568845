"""How many images a row has. Known from reading the pool: no model, nothing stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Field, Signal


@dataclass(frozen=True)
class ImageCount:
    """Images of a row, each as often as it occurs."""

    kind: ClassVar[str] = "image_count"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (Field("images", "int32", "images of the row, >= 0"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"images": np.asarray(facts["images"], np.int32)}
