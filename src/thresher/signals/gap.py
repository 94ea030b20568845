"""What is searched for on behalf of each wrong row: the missing skill, or the mistaken step's own
words (the paper's ablation).

Where the teacher wrote no skill the step stands in, and is marked. Arithmetic on columns.
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
    """Field `skill`; None: search by the step's words."""

    kind: ClassVar[str] = "gap"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("skills", "str", 'what is searched for; "": nothing is missing here'),
        Field("fallback", "bool", "the teacher wrote no skill, the mistaken step stands in"),
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
