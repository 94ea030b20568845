"""Mean entropy of the predictions at the answer tokens, from the pass of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thresher.signals.reading import Reading, ReadTogether, finite
from thresher.types import AnyModel, Capability, Field


@dataclass(frozen=True)
class Entropy(ReadTogether):
    """Entropy of the model's next-token distribution at each answer token (teacher-forced). Higher:
    less certain. It does not depend on whether the answer is right."""

    model: AnyModel

    kind: ClassVar[str] = "entropy"
    version: ClassVar[int] = 2  # 2: from the end of the generation prompt
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "entropy",
            "float32",
            "nats, mean over all answer tokens of the row, 0 … ln(vocabulary); higher = less "
            "certain",
        ),
    )

    def reading(self) -> Reading:
        return Reading(spread=True)

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        return finite({"entropy": found["entropy"]}, "the entropy")
