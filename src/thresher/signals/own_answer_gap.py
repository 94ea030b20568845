"""How much the model prefers another answer; computed in the pass of the loss.

The loss of a row mixes two things: how hard the question is, and how far the given answer is from
the model's own. The gap removes the first: it is the loss of the given answer minus that of the
model's most likely tokens at the same positions, so that wrong answers are easier to detect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thresher.signals.reading import Reading, ReadTogether, finite
from thresher.types import AnyModel, Capability, Field


@dataclass(frozen=True)
class OwnAnswerGap(ReadTogether):
    """Log-probability of the model's most likely token minus that of the given token, at each
    answer token. Teacher-forced: the context is the given answer so far, so the model's own tokens
    are those at the same positions, not a freely generated answer."""

    model: AnyModel

    kind: ClassVar[str] = "own_answer_gap"
    version: ClassVar[int] = 2  # 2: from the end of the generation prompt
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "gap",
            "float32",
            "nats per answer token, mean over all answer tokens of the row, >= 0; 0: each is the "
            "model's most likely token; higher = the model disagrees more",
        ),
    )

    def reading(self) -> Reading:
        return Reading(spread=True)

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        return finite({"gap": found["own_gap"]}, "the gap to the model's own answer")
