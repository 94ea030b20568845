"""The number of a row in the order of the pool's files. Known from reading the pool: no model,
nothing stored. What uses it depends on the order of the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Field, Signal


@dataclass(frozen=True)
class FileOrder:
    """0 for the first row of the first file."""

    kind: ClassVar[str] = "file_order"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (Field("row", "int64", "0 … n-1, distinct"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"row": np.asarray(facts["row"], np.int64)}
