"""The search query for each wrong row: the missing skill, or the text of the mistaken step (the
paper's ablation).

If the teacher named no skill, the step is used instead, and marked. Arithmetic on columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal


@dataclass(frozen=True)
class Gap:
    mistake: Signal
    """Fields `step`, `text`."""
    missing_skill: Signal | None
    """Field `skill`; None: search by the text of the step."""

    kind: ClassVar[str] = "gap"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("skills", "str", 'the search query; "": nothing is missing'),
        Field("fallback", "bool", "the teacher named no skill: the mistaken step is used"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"mistake": self.mistake} | (
            {} if self.missing_skill is None else {"missing_skill": self.missing_skill}
        )

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        step = np.asarray(inputs["mistake"]["text"], object)
        if self.missing_skill is None:
            return {"skills": step.copy(), "fallback": np.zeros(len(step), bool)}
        skill = np.asarray(inputs["missing_skill"]["skill"], object)
        fallback = np.array([not s and bool(t) for s, t in zip(skill, step, strict=True)], bool)
        return {"skills": np.where(fallback, step, skill), "fallback": fallback}
