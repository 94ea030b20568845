"""A wrong rationale as a teacher gets it: what is asked, under which letters, step by step; and
what the signals share that ask.

Yao et al., arXiv:2412.15652, step 2. The prompt holds the question, the options (the row's own, or
the two answers and further ones in a mixed order) and a prior that favours the right answer; the
student's steps follow it. No picture, no model.
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
from thresher.signals.other_answers import LONGEST
from thresher.signals.prompts import read
from thresher.signals.rationale import question_of
from thresher.signals.reasoning import stated_answer, take_apart
from thresher.signals.template import fill
from thresher.signals.wrong import Wrong
from thresher.types import IMAGE_PLACEHOLDER, Columns, Field, Sample, Scored, Signal, Turn

PROMPT = read("error_switch")
END = read("error_switch_end")
LETTERS = "ABCDEFGHIJKL"
MOST_OPTIONS = 4  # of a question that offers none itself


class AsksCases:
    """What `AnswerSwitch` and `SampledSwitch` have in common: asked of the rows that the student
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
            "JSON list: p(wrong) - p(right) among the options, -1 … 1, before any step and after "
            "each; []: it could not be asked",
        ),
    )

    @property
    def among(self) -> Signal:
        return Wrong(self.rationale)

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale, "others": self.others, "wrong": self.among}


@dataclass(frozen=True)
class Case:
    """One wrong rationale as the teacher gets it. `right`, `wrong`: positions in `options`;
    `pieces`: the steps' texts."""

    sample: Sample
    options: tuple[str, ...]
    right: int
    wrong: int
    pieces: tuple[str, ...]


def cases_of(
    samples: Sequence[Sample], inputs: Columns, prior: float, prompt: str
) -> tuple[dict[int, Case], Scored]:
    """position -> case of the rows that make one, and the result of the others."""
    told, others = inputs["rationale"], inputs["others"]["answers"]
    asked: dict[int, Case] = {}
    rest: list[int] = []
    for i, sample in enumerate(samples):
        case = make_case(
            sample,
            str(told["text"][i]),
            str(told["answer"][i]),
            json.loads(others[i]),
            prior,
            prompt,
        )
        if case is None:
            rest.append(i)
        else:
            asked[i] = case
    return asked, Scored(
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
    """None: the student gave no answer that could be an option."""
    steps = take_apart(rationale).steps
    if not answer.strip() or not steps:
        return None
    offered = candidates(sample)
    wanted = expected(sample)
    answer = answer[:LONGEST]
    if offered is not None:
        texts = [
            o or t for o, t in zip(offered.options or offered.texts, offered.texts, strict=True)
        ]
        right = _place(wanted, offered.texts)
        if right is None:
            return None
        wrong = offered.texts.index(answer) if answer in offered.texts else len(texts)
        texts = [*texts, answer][: max(len(texts), wrong + 1)]
    else:
        wanted = stated_answer(wanted)[:LONGEST]
        forms = [normalise(wanted), normalise(answer)]
        more = [a for a in others if normalise(a) not in forms]
        mixed = [wanted, answer, *more[: MOST_OPTIONS - 2]]
        order = sorted(
            range(len(mixed)),
            key=lambda k: hashlib.sha256(sample.digest + mixed[k].encode()).digest(),
        )
        texts = [mixed[k] for k in order]
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
    turn = Turn("user", fill(prompt, values))
    pieces = tuple(f"\n{k + 1}. {step}" for k, step in enumerate(steps))
    return Case(Sample(sample.id, (turn,), (), sample.source), tuple(texts), right, wrong, pieces)


def _place(answer: str, texts: Sequence[str]) -> int | None:
    forms = [normalise(t) for t in texts]
    if answer in texts:
        return list(texts).index(answer)
    return forms.index(normalise(answer)) if normalise(answer) in forms else None


def plain_question(sample: Sample) -> str:
    """The row's last question, without image placeholders and answer instructions."""
    return question_of(question(sample).replace(IMAGE_PLACEHOLDER, " ")).strip()


def as_json(margins: np.ndarray) -> str:
    return json.dumps([round(float(m), 6) for m in margins])


def longer(case: Case, steps: int) -> Sample:
    """The prompt with so many steps in it."""
    turn = case.sample.turns[-1]
    text = turn.text + "".join(case.pieces[:steps])
    return Sample(case.sample.id, (Turn("user", text),), (), case.sample.source)
