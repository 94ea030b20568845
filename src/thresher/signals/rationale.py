"""A model's step-by-step reasoning and answer, and whether the answer is right: error collection.

Barry Menglong Yao et al., arXiv:2412.15652, step 1. The prompt is the row before its last answer,
with an instruction after the question; instructions that ask for a bare answer are removed, since
they would forbid the reasoning. An answer is right if it equals the row's own after both are
normalised as `thresher evaluate` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from thresher.answers.candidates import candidates, expected
from thresher.answers.matching import match_candidate
from thresher.answers.metrics import exact_match
from thresher.signals.answer import UNUSED_ANSWER, GenerateBackend
from thresher.signals.prompts import read
from thresher.signals.reasoning import final_answer, split_reasoning, stated_answer
from thresher.types import (
    AnyModel,
    Capability,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Signal,
    model_inputs,
)

NUMBERED = read("error_rationale")
PLAIN = read("error_rationale_plain")
_BARE_ANSWER = re.compile(
    r"(?:please )?(?:answer|reply) (?:the question )?(?:using|with|in) "
    r"(?:only )?(?:a|one|the|yes)\b",
    re.IGNORECASE,
)
_REST = re.compile(r"[^\n.]*\.?")  # the rest of its sentence


@dataclass(frozen=True)
class Rationale:
    """Greedy decoding, one prompt per row."""

    model: AnyModel
    instruction: str = NUMBERED
    """Follows the question."""
    max_new_tokens: int = 256
    """Most tokens; longer rationales are cut."""

    kind: ClassVar[str] = "rationale"
    version: ClassVar[int] = 2
    needs: ClassVar[Capability] = Capability.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the reasoning as generated"),
        Field(
            "answer",
            "str",
            "the final answer; if the row has candidates, the one that is meant, if clear; "
            '"": cut off',
        ),
        Field("expected", "str", "the row's own answer"),
        Field("steps", "int32", "steps before the answer, >= 0; 0: no reasoning"),
        Field("right", "bool", "answer and expected are equal after normalisation"),
        Field("finished", "bool", "the model stopped by itself; false: cut at max_new_tokens"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return model_inputs(self.model)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GenerateBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        prompts = [with_instruction(sample, self.instruction) for sample in samples]
        for piece in backend.generate(prompts, pool, self.max_new_tokens):
            pieces = zip(
                piece.index.tolist(), piece.values["text"], piece.values["finished"], strict=True
            )
            results = [_read(samples[i], str(text), bool(finished)) for i, text, finished in pieces]
            values = {
                "text": piece.values["text"],
                "answer": np.array([t[0] for t in results], object),
                "expected": np.array([t[1] for t in results], object),
                "steps": np.array([t[2] for t in results], np.int32),
                "right": np.array([t[3] for t in results], bool),
                "finished": piece.values["finished"],
            }
            yield Scored(piece.index, values, piece.errors)


def with_instruction(sample: Sample, instruction: str) -> Sample:
    """The row with an instruction after its last question, and a placeholder for the answer.

    Arguments:
        sample: the row.
        instruction: follows the question, of which instructions for a bare answer are removed.

    >>> from thresher.types import Turn
    >>> turns = Turn("user", "Is it red?\\nAnswer with yes or no."), Turn("assistant", "Yes")
    >>> row = Sample("1", turns)
    >>> with_instruction(row, "\\nThink.").turns[0].text
    'Is it red?\\nThink.'
    """
    turns = list(sample.turns)
    last = max((i for i, t in enumerate(turns) if t.role == "assistant"), default=len(turns))
    before = turns[:last]
    for i in range(len(before) - 1, -1, -1):
        if before[i].role == "user":
            text = strip_answer_instruction(before[i].text) + instruction
            before[i] = replace(before[i], text=text)
            break
    return replace(sample, turns=(*before, UNUSED_ANSWER))


def strip_answer_instruction(text: str) -> str:
    """A question without instructions to answer in a word, a letter or a sentence."""
    kept, end = [], 0
    for found in _BARE_ANSWER.finditer(text):
        start = found.start()
        if start < end:
            continue
        while start > end and text[start - 1].isspace():
            start -= 1
        if start and text[start - 1] not in ".!?":  # a sentence begins there, or a line does
            line = text.find("\n", start, found.start())
            if line < 0:
                continue
            start = line + 1
        kept.append(text[end:start])
        rest = _REST.match(text, found.end())
        end = rest.end() if rest else found.end()
    return "".join([*kept, text[end:]]).strip()


def _read(sample: Sample, text: str, finished: bool) -> tuple[str, str, int, bool]:
    """(answer, expected answer, number of steps, whether it is right)."""
    found = replace(split_reasoning(text), answer=final_answer(text, finished))
    expected_answer = stated_answer(expected(sample))
    offered = candidates(sample)
    answer = found.answer if offered is None else match_candidate(found.answer, offered)
    right = exact_match(answer, expected_answer) or exact_match(answer, expected(sample))
    return answer, expected_answer, len(found.steps), right
