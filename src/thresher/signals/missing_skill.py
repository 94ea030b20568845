"""The skill whose lack explains a mistaken step, named by a teacher. Yao et al., arXiv:2412.15652,
step 3.

The teacher's prompt has in-context examples, the question, both answers, the steps before the
mistake and the mistaken step (`prompts/error_skill.txt`); it has no image, as when the mistake was
located. Computed only for rows with a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.signals.answer import GenerateBackend, text_prompt
from thresher.signals.case import plain_question
from thresher.signals.prompts import read
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
)

PROMPT = read("error_skill")
MAX_CHARACTERS = 400  # characters of an answer in the prompt


@dataclass(frozen=True)
class MissingSkill:
    model: ModelIdentity
    """The teacher."""
    rationale: Signal
    """Fields `answer`, `expected`."""
    mistake: Signal
    """Fields `chosen`, `step`, `text`, `before`."""
    prompt: str = PROMPT
    max_new_tokens: int = 32

    kind: ClassVar[str] = "missing_skill"
    version: ClassVar[int] = 2
    needs: ClassVar[Capability] = Capability.GENERATE
    not_identity: ClassVar[tuple[str, ...]] = ("rationale", "mistake")
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = (
        ("rationale", "answer"),
        ("rationale", "expected"),
        ("mistake", "step"),
        ("mistake", "text"),
        ("mistake", "before"),
    )
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "skill",
            "str",
            'the skill, lower case; "": nothing is missing, or the teacher named none',
        ),
        Field("said", "str", "the teacher's text"),
    )

    @property
    def among(self) -> Signal:
        return self.mistake

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale, "mistake": self.mistake}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GenerateBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        assert inputs is not None
        prompts = [self._prompt(samples[i], inputs, i) for i in range(len(samples))]
        for piece in backend.generate(prompts, pool, self.max_new_tokens):
            texts = piece.values["text"]
            skills = [next(iter(read_skills(first_line(str(t)), 1)), "") for t in texts]
            yield Scored(
                piece.index, {"skill": np.array(skills, object), "said": texts}, piece.errors
            )

    def _prompt(self, sample: Sample, inputs: Columns, i: int) -> Sample:
        rationales, mistake = inputs["rationale"], inputs["mistake"]
        values = {
            "question": plain_question(sample),
            "right": str(rationales["expected"][i])[:MAX_CHARACTERS],
            "answer": str(rationales["answer"][i])[:MAX_CHARACTERS],
            "before": str(mistake["before"][i]).replace("\n", " ") or "(none)",
            "mistake": str(mistake["text"][i]),
        }
        return text_prompt(sample, render_template(self.prompt, values))


def first_line(text: str) -> str:
    """The first non-empty line; a teacher may continue with an example of its own."""
    return next((line for line in text.split("\n") if line.strip()), "")
