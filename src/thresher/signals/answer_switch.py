"""When a reader's mind changes: the probability of the wrong answer against the right one after each step of a rationale.

Yao et al., arXiv:2412.15652, step 2. The teacher does not see the picture. It is told a prior that favours the right answer,
then the student's steps one after the other, and is asked for the answer after each. Options carry letters, so that an
answer is one token and a server can be asked as well. Which step is the mistake is arithmetic on these numbers (`mistake.py`).

A backend with `grows` reads the growing text once; any other is asked anew with each longer text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.errors import CapabilityError
from thresher.evaluation.normalise import normalise
from thresher.prompts import read
from thresher.signals.candidates import candidates, expected, question
from thresher.signals.fill import fill
from thresher.signals.other_answers import LONGEST
from thresher.signals.query import AskBackend, Query
from thresher.signals.rationale import question_of
from thresher.signals.steps import stated_answer, take_apart
from thresher.signals.wrong import Wrong
from thresher.types import (
    IMAGE_PLACEHOLDER,
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

PROMPT = read("error_switch")
END = read("error_switch_end")
LETTERS = "ABCDEFGHIJKL"
MOST_OPTIONS = 4  # of a question that offers none itself
MARGINS = Field(
    "margins",
    "str",
    "JSON list: p(wrong) - p(right) among the options, -1 … 1, before any step and after each; []: it could not be asked",
)
KEYS = (
    ("rationale", "text"),
    ("rationale", "answer"),
    ("others", "answers"),
)


class GrowingBackend(AskBackend, Protocol):
    """A backend that may read a growing text once."""

    @property
    def grows(self) -> bool: ...
    def ask_growing(
        self, samples: Sequence[Sample], pieces: Sequence[Sequence[str]], query: Query, pool: SampleSource
    ) -> Iterator[Scored]:
        """`ask` for each row's turn with 0, 1, … of its pieces behind: logprob float32 [m, most pieces + 1, answers]."""


@dataclass(frozen=True)
class Case:
    """One wrong rationale as the teacher gets it. `right`, `wrong`: positions in `options`; `pieces`: the steps' texts."""

    sample: Sample
    options: tuple[str, ...]
    right: int
    wrong: int
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class AnswerSwitch:
    """Asked of the rows that the student answered wrongly; one whose answer cannot be an option gets `[]`."""

    model: ModelIdentity
    """The teacher."""
    rationale: Signal
    """Fields `text`, `answer`, `right`."""
    others: Signal
    """Field `answers`: further candidates of questions that offer none."""
    prior: float = 0.6
    """Probability that the prompt gives the right answer, 0 … 1."""
    prompt: str = PROMPT
    end: str = END

    name: ClassVar[str] = "answer_switch"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS
    not_identity: ClassVar[tuple[str, ...]] = ("rationale", "others")
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = KEYS
    fields: ClassVar[tuple[Field, ...]] = (MARGINS,)

    @property
    def among(self) -> Signal:
        return Wrong(self.rationale)

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale, "others": self.others, "wrong": self.among}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: GrowingBackend, pool: SampleSource
    ) -> Iterator[Scored]:
        assert inputs is not None
        asked, unasked = cases_of(samples, inputs, self.prior, self.prompt)
        yield unasked
        rows = np.array(list(asked), np.int64)
        cases = list(asked.values())
        if not cases:
            return
        query = Query(self.end, tuple(LETTERS[: max(len(c.options) for c in cases)]))
        grown = _growing if getattr(backend, "grows", False) else _anew
        for piece in _or_say(grown(cases, query, backend, pool)):
            margins, errors = [], []
            for i, table, error in zip(piece.index.tolist(), piece.values["logprob"], piece.errors, strict=True):
                case = cases[i]
                found = margin(table[: len(case.pieces) + 1, : len(case.options)], case.right, case.wrong)
                bad = error or ("" if np.isfinite(found).all() else "the teacher gives no probability to any option")
                margins.append("[]" if bad else as_json(found))
                errors.append(bad)
            yield Scored(rows[piece.index], {"margins": np.array(margins, object)}, errors)


def cases_of(samples: Sequence[Sample], inputs: Columns, prior: float, prompt: str) -> tuple[dict[int, Case], Scored]:
    """position -> case of the rows that make one, and the result of the others."""
    told, others = inputs["rationale"], inputs["others"]["answers"]
    asked: dict[int, Case] = {}
    rest: list[int] = []
    for i, sample in enumerate(samples):
        case = make_case(sample, str(told["text"][i]), str(told["answer"][i]), json.loads(others[i]), prior, prompt)
        if case is None:
            rest.append(i)
        else:
            asked[i] = case
    return asked, Scored(np.array(rest, np.int64), {"margins": np.array(["[]"] * len(rest), object)}, [""] * len(rest))


def make_case(
    sample: Sample, rationale: str, answer: str, others: Sequence[str], prior: float, prompt: str = PROMPT
) -> Case | None:
    """None: the student gave no answer that could be an option."""
    steps = take_apart(rationale).steps
    if not answer.strip() or not steps:
        return None
    offered = candidates(sample)
    wanted = expected(sample)
    answer = answer[:LONGEST]
    if offered is not None:
        texts = [o or t for o, t in zip(offered.options or offered.texts, offered.texts, strict=True)]
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
        order = sorted(range(len(mixed)), key=lambda k: hashlib.sha256(sample.digest + mixed[k].encode()).digest())
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


def margin(logprob: np.ndarray, right: int, wrong: int) -> np.ndarray:
    """float [t, options] in nats -> p(wrong) - p(right) among the options, [t]; NaN where no option has a probability."""
    top = logprob.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        p = np.exp(logprob.astype(np.float64) - top)
        p /= p.sum(axis=1, keepdims=True)
    return np.asarray(p[:, wrong] - p[:, right])


def as_json(margins: np.ndarray) -> str:
    return json.dumps([round(float(m), 6) for m in margins])


def _or_say(pieces: Iterator[Scored]) -> Iterator[Scored]:
    """A server without log-probabilities: what can be done is said, and nothing else is done instead."""
    try:
        yield from pieces
    except CapabilityError as e:
        raise CapabilityError(
            f"{e} The teacher can be sampled instead, say 8 times a step: --set switch=sample:8."
        ) from e


def _growing(cases: Sequence[Case], query: Query, backend: GrowingBackend, pool: SampleSource) -> Iterator[Scored]:
    return backend.ask_growing([c.sample for c in cases], [c.pieces for c in cases], query, pool)


def _anew(cases: Sequence[Case], query: Query, backend: AskBackend, pool: SampleSource) -> Iterator[Scored]:
    """The same from a backend that only answers whole prompts: one for each step."""
    flat = [(i, t) for i, c in enumerate(cases) for t in range(len(c.pieces) + 1)]
    asked = [longer(cases[i], t) for i, t in flat]
    tables = [np.full((len(c.pieces) + 1, len(query.answers)), np.nan, np.float32) for c in cases]
    left = [len(t) for t in tables]
    errors = [""] * len(cases)
    for piece in backend.ask(asked, [query], pool):
        done = []
        for at, line, error in zip(piece.index.tolist(), piece.values["logprob"], piece.errors, strict=True):
            i, t = flat[at]
            tables[i][t] = line
            errors[i] = errors[i] or error
            left[i] -= 1
            if not left[i]:
                done.append(i)
        if done:
            longest = max(len(tables[i]) for i in done)
            out = np.full((len(done), longest, len(query.answers)), np.nan, np.float32)
            for k, i in enumerate(done):
                out[k, : len(tables[i])] = tables[i]
            yield Scored(np.array(done, np.int64), {"logprob": out}, [errors[i] for i in done])


def longer(case: Case, steps: int) -> Sample:
    """The prompt with so many steps in it."""
    turn = case.sample.turns[-1]
    text = turn.text + "".join(case.pieces[:steps])
    return Sample(case.sample.id, (Turn("user", text),), (), case.sample.source)
