"""Rule-based student and teacher for error-driven selection, which count their questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.text_pools import record
from thresher.backends import ModelHandle
from thresher.types import ModelIdentity, Sample, Scored

SKILLS = ("adding small numbers", "doubling odd values", "reading three digits")


def skill_of(question: str) -> str:
    """By the number in "What is 12 plus 12?"."""
    return SKILLS[int(question.split("What is ")[1].split()[0]) % 3]


def validation(rows: int, start: int = 5000) -> list[dict[str, Any]]:
    """Questions of the target task; the answer is one number."""
    out = []
    for i in range(start, start + rows):
        row = record(i)
        row["conversations"][1]["value"] = str(2 * i)
        out.append(row | {"data_source": ("even", "odd")[i % 2]})
    return out


def _number(sample: Sample) -> int:
    asked = next(t.text for t in sample.turns if "What is " in t.text)
    return int(asked.rpartition("What is ")[2].split()[0])


@dataclass
class Rules:
    """As a student it answers the rows of `knows` correctly; as a teacher it judges every step
    correctly."""

    name: str
    knows: tuple[int, ...] = ()  # remainders by 6
    asked: list[str] = field(default_factory=list)
    opened: int = 0

    @property
    def handle(self) -> ModelHandle:
        identity = ModelIdentity(f"rules:{self.name}{self.knows}", "rules", "float32", "none")
        return ModelHandle(self.name, identity, self._open)

    def _open(self) -> Rules:
        self.opened += 1
        return self

    def generate(self, samples: Sequence[Sample], pool: Any, most: int) -> Iterator[Scored]:
        for i, sample in enumerate(samples):
            prompt = sample.turns[-2].text
            number = _number(sample)
            if "Missing skill:" in prompt:
                kind, text = "skill", skill_of(prompt.rpartition("Question: ")[2])
            elif "Skills:" in prompt:
                kind, text = "skills", f"1. {SKILLS[number % 3]}\n2. speaking plainly"
            else:
                kind = "rationale"
                right = number % 6 in self.knows
                last = f"Twice {number} is {2 * number + (not right)}."
                text = (
                    f"1. I read {number}.\n2. I double it.\n3. {last}\nAnswer: "
                    f"{2 * number + (not right)}"
                )
            self.asked.append(kind)
            values = {
                "text": np.array([text], object),
                "tokens": np.array([9]),
                "finished": np.array([True]),
            }
            yield Scored(np.array([i]), values, [""])

    def ask(self, samples: Sequence[Sample], queries: Any, pool: Any) -> Iterator[Scored]:
        """Believes what it reads."""
        for i, sample in enumerate(samples):
            self.asked.append("switch")
            text = sample.turns[-1].text
            letter = text[text.index(") is correct with") - 1]
            fooled = "Twice " in text
            p = [0.05 if (a == letter) == fooled else 0.8 for a in queries[0].answers]
            yield Scored(np.array([i]), {"logprob": np.log(np.array([p], np.float32))}, [""])
