"""The length of a row's answers. Known from reading the pool: no model, nothing stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.types import Field, Signal


@dataclass(frozen=True)
class Length:
    """Total length of a row's assistant turns."""

    unit: Literal["words", "chars"] = "words"
    """words: separated by whitespace (a text without spaces, such as Chinese, is one word); chars:
    characters."""

    kind: ClassVar[str] = "length"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("length", "int32", "words or characters of all answers of the row, >= 0"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"length": np.asarray(facts[f"answer_{self.unit}"], np.int32)}
