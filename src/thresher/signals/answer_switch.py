"""The teacher's probability of the wrong answer relative to the right one, after each step of a
rationale.

Yao et al., arXiv:2412.15652, step 2. The teacher does not see the image. Its prompt has a prior
that favours the right answer, then the student's steps one after the other; it is asked for the
answer after each step. Options have letters, so that an answer is one token and a server can be
used as well. Which step is the mistake is arithmetic on these numbers (`mistake.py`).

A backend that `can_ask_incrementally` reads the growing text once; any other is asked again with
each longer text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.errors import CapabilityError, opt
from thresher.signals.case import (
    END,
    LETTERS,
    PROMPT,
    Case,
    SwitchSignal,
    cases_of,
    margins_json,
    with_steps,
)
from thresher.signals.query import AskBackend, Query
from thresher.types import Capability, Columns, ModelIdentity, Sample, SampleSource, Scored, Signal


class IncrementalBackend(AskBackend, Protocol):
    """A backend that may read a growing text incrementally."""

    @property
    def can_ask_incrementally(self) -> bool: ...
    def ask_incrementally(
        self,
        samples: Sequence[Sample],
        pieces: Sequence[Sequence[str]],
        query: Query,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        """`ask` for each row's turn followed by its first 0, 1, … pieces: logprob float32 [m, most
        pieces + 1, answers].

        Arguments:
            samples: n rows, each ending with a user turn.
            pieces: for each row, the pieces that extend its user turn, in order.
            query: asked before the first piece and after each.
            pool: where images are loaded from.
        """


@dataclass(frozen=True)
class AnswerSwitch(SwitchSignal):
    """Computed for the rows that the student answered wrongly; `[]` if its answer cannot be an
    option."""

    model: ModelIdentity
    """The teacher."""
    rationale: Signal
    """Fields `text`, `answer`, `right`."""
    others: Signal
    """Field `answers`: further candidates of questions that offer none."""
    prior: float = 0.6
    """Probability of the right answer that the prompt states, 0 … 1."""
    prompt: str = PROMPT
    end: str = END

    kind: ClassVar[str] = "answer_switch"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: IncrementalBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        assert inputs is not None
        cases_by_row, skipped = cases_of(samples, inputs, self.prior, self.prompt)
        yield skipped
        rows = np.array(list(cases_by_row), np.int64)
        cases = list(cases_by_row.values())
        if not cases:
            return
        query = Query(self.end, tuple(LETTERS[: max(len(c.options) for c in cases)]))
        ask = (
            _ask_incrementally
            if getattr(backend, "can_ask_incrementally", False)
            else _ask_each_prompt
        )
        for piece in _suggest_sampling(ask(cases, query, backend, pool)):
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
                    else "no-probability: the teacher gives no probability to any option"
                )
                margins.append("[]" if bad else margins_json(found))
                errors.append(bad)
            yield Scored(rows[piece.index], {"margins": np.array(margins, object)}, errors)


def margin(logprob: np.ndarray, right: int, wrong: int) -> np.ndarray:
    """p(wrong) - p(right) among the options, float64 [t]; NaN where no option has a probability.

    Arguments:
        logprob: float [t, options], in nats.
        right, wrong: indices of options.
    """
    top = logprob.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        p = np.exp(logprob.astype(np.float64) - top)
        p /= p.sum(axis=1, keepdims=True)
    return np.asarray(p[:, wrong] - p[:, right])


def _suggest_sampling(pieces: Iterator[Scored]) -> Iterator[Scored]:
    """Add to the error of a server without log-probabilities which setting works instead."""
    try:
        yield from pieces
    except CapabilityError as e:
        raise CapabilityError(
            f"{e.message} Sample the teacher's answers instead, such as 8 per step: "
            f"{opt('settings.switch', 'sample:8')}."
        ) from e


def _ask_incrementally(
    cases: Sequence[Case], query: Query, backend: IncrementalBackend, pool: SampleSource
) -> Iterator[Scored]:
    return backend.ask_incrementally(
        [c.sample for c in cases], [c.pieces for c in cases], query, pool
    )


def _ask_each_prompt(
    cases: Sequence[Case], query: Query, backend: AskBackend, pool: SampleSource
) -> Iterator[Scored]:
    """The same with one whole prompt per step."""
    flat = [(i, t) for i, c in enumerate(cases) for t in range(len(c.pieces) + 1)]
    asked = [with_steps(cases[i], t) for i, t in flat]
    tables = [np.full((len(c.pieces) + 1, len(query.answers)), np.nan, np.float32) for c in cases]
    left = [len(t) for t in tables]
    errors = [""] * len(cases)
    for piece in backend.ask(asked, [query], pool):
        done = []
        for j, line, error in zip(
            piece.index.tolist(), piece.values["logprob"], piece.errors, strict=True
        ):
            i, t = flat[j]
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
