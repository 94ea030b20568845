"""When a reader's mind changes: the probability of the wrong answer against the right one after
each step of a rationale.

Yao et al., arXiv:2412.15652, step 2. The teacher does not see the picture. It is told a prior that
favours the right answer, then the student's steps one after the other, and is asked for the answer
after each. Options carry letters, so that an answer is one token and a server can be asked as well.
Which step is the mistake is arithmetic on these numbers (`mistake.py`).

A backend that `can_ask_incrementally` reads the growing text once; any other is asked again with
each longer text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.errors import CapabilityError
from thresher.signals.case import END, LETTERS, PROMPT, AsksCases, Case, as_json, cases_of, longer
from thresher.signals.query import AskBackend, Query
from thresher.types import Capability, Columns, ModelIdentity, Sample, SampleSource, Scored, Signal


class GrowingBackend(AskBackend, Protocol):
    """A backend that may read a growing text once."""

    @property
    def can_ask_incrementally(self) -> bool: ...
    def ask_incrementally(
        self,
        samples: Sequence[Sample],
        pieces: Sequence[Sequence[str]],
        query: Query,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        """`ask` for each row's turn with 0, 1, … of its pieces behind: logprob float32 [m, most
        pieces + 1, answers]."""


@dataclass(frozen=True)
class AnswerSwitch(AsksCases):
    """Asked of the rows that the student answered wrongly; one whose answer cannot be an option
    gets `[]`."""

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

    kind: ClassVar[str] = "answer_switch"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GrowingBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        assert inputs is not None
        asked, unasked = cases_of(samples, inputs, self.prior, self.prompt)
        yield unasked
        rows = np.array(list(asked), np.int64)
        cases = list(asked.values())
        if not cases:
            return
        query = Query(self.end, tuple(LETTERS[: max(len(c.options) for c in cases)]))
        grown = _growing if getattr(backend, "can_ask_incrementally", False) else _anew
        for piece in _or_say(grown(cases, query, backend, pool)):
            margins, errors = [], []
            for i, table, error in zip(
                piece.index.tolist(), piece.values["logprob"], piece.errors, strict=True
            ):
                case = cases[i]
                found = margin(
                    table[: len(case.pieces) + 1, : len(case.options)], case.right, case.wrong
                )
                bad = error or (
                    ""
                    if np.isfinite(found).all()
                    else ("the teacher gives no probability to any option")
                )
                margins.append("[]" if bad else as_json(found))
                errors.append(bad)
            yield Scored(rows[piece.index], {"margins": np.array(margins, object)}, errors)


def margin(logprob: np.ndarray, right: int, wrong: int) -> np.ndarray:
    """float [t, options] in nats -> p(wrong) - p(right) among the options, [t]; NaN where no option
    has a probability."""
    top = logprob.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        p = np.exp(logprob.astype(np.float64) - top)
        p /= p.sum(axis=1, keepdims=True)
    return np.asarray(p[:, wrong] - p[:, right])


def _or_say(pieces: Iterator[Scored]) -> Iterator[Scored]:
    """A server without log-probabilities: what can be done is said, and nothing else is done
    instead."""
    try:
        yield from pieces
    except CapabilityError as e:
        raise CapabilityError(
            f"{e} The teacher can be sampled instead, say 8 times a step: --set switch=sample:8."
        ) from e


def _growing(
    cases: Sequence[Case], query: Query, backend: GrowingBackend, pool: SampleSource
) -> Iterator[Scored]:
    return backend.ask_incrementally(
        [c.sample for c in cases], [c.pieces for c in cases], query, pool
    )


def _anew(
    cases: Sequence[Case], query: Query, backend: AskBackend, pool: SampleSource
) -> Iterator[Scored]:
    """The same from a backend that only answers whole prompts: one for each step."""
    flat = [(i, t) for i, c in enumerate(cases) for t in range(len(c.pieces) + 1)]
    asked = [longer(cases[i], t) for i, t in flat]
    tables = [np.full((len(c.pieces) + 1, len(query.answers)), np.nan, np.float32) for c in cases]
    left = [len(t) for t in tables]
    errors = [""] * len(cases)
    for piece in backend.ask(asked, [query], pool):
        done = []
        for at, line, error in zip(
            piece.index.tolist(), piece.values["logprob"], piece.errors, strict=True
        ):
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
