"""What a model reasons and answers when it is asked to think step by step, and whether that is
right: error collection.

Barry Menglong Yao et al., arXiv:2412.15652, step 1. The prompt is the row up to its last answer
with an instruction behind the question; instructions that ask for a bare answer are taken out,
since they would forbid the reasoning. An answer is right where it equals the row's own once both
are normalised as `thresher evaluate` does.
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
from thresher.signals.answer import GenerateBackend
from thresher.signals.prompts import read
from thresher.signals.reasoning import final_answer, stated_answer, take_apart
from thresher.types import (
    AnyModel,
    Capability,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Signal,
    Turn,
    model_inputs,
)

NUMBERED = read("error_rationale")
PLAIN = read("error_rationale_plain")
_BARE_ANSWER = re.compile(
    r"(?:please )?(?:answer|reply) (?:the question )?(?:using|with|in) "
    r"(?:only )?(?:a|one|the|yes)\b",
    re.IGNORECASE,
)
_REST = re.compile(r"[^\n.]*\.?")  # of its sentence


@dataclass(frozen=True)
class Rationale:
    """Greedy decoding, one prompt a row."""

    model: AnyModel
    instruction: str = NUMBERED
    """Stands behind the question."""
    max_new_tokens: int = 256
    """Where a rationale is cut that does not end by itself."""

    kind: ClassVar[str] = "rationale"
    version: ClassVar[int] = 2
    needs: ClassVar[Capability] = Capability.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the reasoning as the model wrote it"),
        Field(
            "answer",
            "str",
            "its final answer; of a row that offers candidates the one it means, if clear; "
            '"": cut off',
        ),
        Field("expected", "str", "the row's own answer"),
        Field("steps", "int32", "steps before the answer, >= 0; 0: nothing was written"),
        Field("right", "bool", "answer and expected are equal once normalised"),
        Field("finished", "bool", "the model ended by itself; false: it was cut at max_new_tokens"),
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
        asked = [prompted(sample, self.instruction) for sample in samples]
        for piece in backend.generate(asked, pool, self.max_new_tokens):
            pieces = zip(
                piece.index.tolist(), piece.values["text"], piece.values["finished"], strict=True
            )
            told = [_read(samples[i], str(text), bool(finished)) for i, text, finished in pieces]
            values = {
                "text": piece.values["text"],
                "answer": np.array([t[0] for t in told], object),
                "expected": np.array([t[1] for t in told], object),
                "steps": np.array([t[2] for t in told], np.int32),
                "right": np.array([t[3] for t in told], bool),
                "finished": piece.values["finished"],
            }
            yield Scored(piece.index, values, piece.errors)


def prompted(sample: Sample, instruction: str) -> Sample:
    """The row with `instruction` behind its last question, asked for the answer to it.

    >>> turns = Turn("user", "Is it red?\\nAnswer with yes or no."), Turn("assistant", "Yes")
    >>> row = Sample("1", turns)
    >>> prompted(row, "\\nThink.").turns[0].text
    'Is it red?\\nThink.'
    """
    turns = list(sample.turns)
    last = max((i for i, t in enumerate(turns) if t.role == "assistant"), default=len(turns))
    before = turns[:last]
    for at in range(len(before) - 1, -1, -1):
        if before[at].role == "user":
            before[at] = replace(before[at], text=question_of(before[at].text) + instruction)
            break
    # what stands there is not looked at
    return replace(sample, turns=(*before, Turn("assistant", "-")))


def question_of(text: str) -> str:
    """A question without an instruction to answer in a word, a letter or a sentence."""
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
    """answer, expected answer, steps, right."""
    found = replace(take_apart(text), answer=final_answer(text, finished))
    wanted = stated_answer(expected(sample))
    offered = candidates(sample)
    answer = found.answer if offered is None else match_candidate(found.answer, offered)
    right = exact_match(answer, wanted) or exact_match(answer, expected(sample))
    return answer, wanted, len(found.steps), right
