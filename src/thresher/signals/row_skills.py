"""The skills that each row of a pool needs, named by a teacher once per row. Yao et al.,
arXiv:2412.15652.

The teacher sees the row's images, its question and its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from thresher.signals.answer import UNUSED_ANSWER, GenerateBackend
from thresher.signals.prompts import read
from thresher.signals.query import judge_prompt
from thresher.signals.skill_text import read_skills
from thresher.signals.template import render_template
from thresher.types import (
    Capability,
    Columns,
    Field,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
    Turn,
)

PROMPT = read("error_row_skills")
TOKENS_PER_SKILL = 16


@dataclass(frozen=True)
class RowSkills:
    model: ModelIdentity
    """The teacher."""
    most: int = 3
    """Most skills of a row, >= 1."""
    prompt: str = PROMPT
    """Follows the row."""

    kind: ClassVar[str] = "row_skills"
    version: ClassVar[int] = 3  # 3: images stay where the row has them
    needs: ClassVar[Capability] = Capability.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("skills", "str", 'skills, one per line, lower case; "": the teacher named none'),
        Field("count", "int32", "number of skills, 0 … most"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GenerateBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        prompts = [self._prompt(sample) for sample in samples]
        for piece in backend.generate(prompts, pool, TOKENS_PER_SKILL * self.most):
            found = [read_skills(str(t), self.most) for t in piece.values["text"]]
            values = {
                "skills": np.array(["\n".join(f) for f in found], object),
                "count": np.array([len(f) for f in found], np.int32),
            }
            yield Scored(piece.index, values, piece.errors)

    def _prompt(self, sample: Sample) -> Sample:
        row = judge_prompt(sample, "")
        text = row.turns[-1].text + render_template(self.prompt, {"most": self.most})
        return replace(row, turns=(Turn("user", text), UNUSED_ANSWER))
