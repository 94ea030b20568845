"""The teacher's prompt for a wrong rationale, and what the signals that use it have in common.

Yao et al., arXiv:2412.15652, step 2. The prompt contains the question, the options with letters
(the row's own, or the two answers and further ones, shuffled) and a prior that favours the right
answer; the student's steps follow it. Without the image; needs no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.answers.candidates import candidates, expected, question
from thresher.answers.normalise import normalise
from thresher.signals.other_answers import MAX_CHARACTERS
from thresher.signals.prompts import read
from thresher.signals.rationale import strip_answer_instruction
from thresher.signals.reasoning import split_reasoning, stated_answer
from thresher.signals.template import render_template
from thresher.signals.wrong import Wrong
from thresher.types import IMAGE_PLACEHOLDER, Columns, Field, Sample, Scored, Signal, Turn

PROMPT = read("error_switch")
END = read("error_switch_end")
LETTERS = "ABCDEFGHIJKL"
MAX_OPTIONS = 4  # of a question without its own options


class SwitchSignal:
    """Base class of `AnswerSwitch` and `SampledSwitch`, computed for the rows that the student
    answered wrongly."""

    rationale: Signal
    others: Signal

    not_identity: ClassVar[tuple[str, ...]] = ("rationale", "others")
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = (
        ("rationale", "text"),
        ("rationale", "answer"),
        ("others", "answers"),
    )
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "margins",
            "str",
            "JSON list: p(wrong) - p(right) among the options, -1 … 1, before the first step and "
            "after each; []: the answer cannot be an option",
        ),
    )

    @property
    def among(self) -> Signal:
        return Wrong(self.rationale)

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale, "others": self.others, "wrong": self.among}


@dataclass(frozen=True)
class Case:
    """The prompt for one wrong rationale.

    sample: a user turn with question, options and prior.
    options: their texts.
    right, wrong: indices into `options`.
    pieces: the texts of the steps, to append to the user turn.
    """

    sample: Sample
    options: tuple[str, ...]
    right: int
    wrong: int
    pieces: tuple[str, ...]


def cases_of(
    samples: Sequence[Sample], inputs: Columns, prior: float, prompt: str
) -> tuple[dict[int, Case], Scored]:
    """Index -> case of the rows that have one, and the result for the other rows.

    Arguments:
        samples: n validation rows.
        inputs: their columns "rationale" (text, answer) and "others" (answers, as JSON).
        prior: probability of the right option before the first step, 0 to 1.
        prompt: template of the question.
    """
    rationales, others = inputs["rationale"], inputs["others"]["answers"]
    cases: dict[int, Case] = {}
    rest: list[int] = []
    for i, sample in enumerate(samples):
        case = make_case(
            sample,
            str(rationales["text"][i]),
            str(rationales["answer"][i]),
            json.loads(others[i]),
            prior,
            prompt,
        )
        if case is None:
            rest.append(i)
        else:
            cases[i] = case
    return cases, Scored(
        np.array(rest, np.int64),
        {"margins": np.array(["[]"] * len(rest), object)},
        [""] * len(rest),
    )


def make_case(
    sample: Sample,
    rationale: str,
    answer: str,
    others: Sequence[str],
    prior: float,
    prompt: str = PROMPT,
) -> Case | None:
    """The case of one row; None if the student's answer cannot be an option.

    Arguments:
        sample: the row.
        rationale: the student's text.
        answer: the student's answer.
        others: further options for a question without its own options.
        prior: probability of the right answer that the prompt states.
        prompt: a template with {question}, {options}, {right} and {prior}.
    """
    steps = split_reasoning(rationale).steps
    if not answer.strip() or not steps:
        return None
    offered = candidates(sample)
    right_answer = expected(sample)
    answer = answer[:MAX_CHARACTERS]
    if offered is not None:
        texts = [
            o or t for o, t in zip(offered.options or offered.texts, offered.texts, strict=True)
        ]
        right = _index_of(right_answer, offered.texts)
        if right is None:
            return None
        wrong = offered.texts.index(answer) if answer in offered.texts else len(texts)
        texts = [*texts, answer][: max(len(texts), wrong + 1)]
    else:
        right_answer = stated_answer(right_answer)[:MAX_CHARACTERS]
        forms = [normalise(right_answer), normalise(answer)]
        more = [a for a in others if normalise(a) not in forms]
        shuffled = [right_answer, answer, *more[: MAX_OPTIONS - 2]]
        order = sorted(
            range(len(shuffled)),
            key=lambda k: hashlib.sha256(sample.digest + shuffled[k].encode()).digest(),
        )
        texts = [shuffled[k] for k in order]
        right, wrong = order.index(0), order.index(1)
    if len(texts) > len(LETTERS):
        kept = sorted({right, wrong, *range(len(LETTERS) - 2)})
        texts, right, wrong = [texts[k] for k in kept], kept.index(right), kept.index(wrong)
    values = {
        "question": plain_question(sample),
        "options": "\n".join(f"({LETTERS[k]}) {t}" for k, t in enumerate(texts)),
        "right": LETTERS[right],
        "prior": f"{100 * prior:g}",
    }
    turn = Turn("user", render_template(prompt, values))
    pieces = tuple(f"\n{k + 1}. {step}" for k, step in enumerate(steps))
    return Case(Sample(sample.id, (turn,), (), sample.source), tuple(texts), right, wrong, pieces)


def _index_of(answer: str, texts: Sequence[str]) -> int | None:
    forms = [normalise(t) for t in texts]
    if answer in texts:
        return list(texts).index(answer)
    return forms.index(normalise(answer)) if normalise(answer) in forms else None


def plain_question(sample: Sample) -> str:
    """The row's last question, without image placeholders and answer instructions."""
    return strip_answer_instruction(question(sample).replace(IMAGE_PLACEHOLDER, " ")).strip()


def margins_json(margins: np.ndarray) -> str:
    return json.dumps([round(float(m), 6) for m in margins])


def with_steps(case: Case, steps: int) -> Sample:
    """The case's prompt followed by its first `steps` steps.

    Arguments:
        case: the case.
        steps: number of steps, 0 to len(case.pieces).
    """
    turn = case.sample.turns[-1]
    text = turn.text + "".join(case.pieces[:steps])
    return Sample(case.sample.id, (Turn("user", text),), (), case.sample.source)
