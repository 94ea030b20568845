"""Visual gain: loss of the answer without the row's visual input (images, and videos that are
scored) minus the loss with it (VisNec, arXiv:2603.01195)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from thresher.signals.answer_loss import AnswerLoss
from thresher.types import Columns, Field, Signal


@dataclass(frozen=True)
class VisualGain:
    """Higher: the answer depends more on the visual input. Below 0: it contradicts the given
    answer, for example because the answer is wrong or belongs to another image."""

    loss: AnswerLoss

    kind: ClassVar[str] = "visual_gain"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "gain",
            "float32",
            "nats per answer token, loss without the visual input - loss with it; higher = it "
            "matters more, < 0 = it contradicts the answer; NaN: the row has no image or video",
        ),
    )

    def inputs(self) -> Mapping[str, Signal]:
        without = replace(self.loss, image=False, among_images=False)
        return {"loss": self.loss, "without_image": without}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        gain = inputs["without_image"]["nll"] - inputs["loss"]["nll"]
        return {"gain": np.asarray(gain, np.float32)}
