"""How much rather a model would say something else: a column of the pass that gives the loss.

The loss of a row mixes two things: how hard the question is, and how far the given answer is from
the model's own. Without the first, rows with a wrong answer stand out: the gap is the loss of the
given answer minus that of the model's own tokens at the same positions.
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
    """Log-probability of the model's likeliest token minus that of the given one, before each
    answer token (teacher-forced: the model sees the given answer up to there, and its own tokens
    are those at these positions, not an answer that it would write freely)."""

    model: AnyModel

    kind: ClassVar[str] = "own_answer_gap"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "gap",
            "float32",
            "nats per answer token, mean over all answer tokens of the row, >= 0; 0: each is the "
            "model's own; higher = the model disagrees more",
        ),
    )

    def reading(self) -> Reading:
        return Reading(spread=True)

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        return finite({"gap": found["own_gap"]}, "the gap to the model's own answer")
