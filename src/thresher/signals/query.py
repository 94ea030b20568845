"""Questions about a row, several of which share one pass of the model.

The prompt has the row itself, formatted as exchanges, followed by a query in the same user turn.
Signals with equal `batch_key()` have the same prompt except for the query, so a backend encodes
image and exchanges once for all queries. `QuerySignalBase` is the base class of such signals
(`judge`, `style`), which define the query and how its answers are read.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from thresher.types import (
    IMAGE_PLACEHOLDER,
    AnyModel,
    Columns,
    ImageRef,
    Query,
    Sample,
    SampleSource,
    Scored,
    Signal,
    Turn,
    model_inputs,
)

__all__ = [
    "AskBackend",
    "Query",
    "QuerySignal",
    "QuerySignalBase",
    "ask_batch",
    "format_exchanges",
    "generation_prompt",
    "judge_prompt",
    "relative_probabilities",
    "text_without_images",
]


class AskBackend(Protocol):
    """The part of a backend that judges use."""

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """Log-probabilities of the answers to several queries.

        Arguments:
            samples: each an optional system turn and one user turn.
            queries: the text of each is appended to the user turn, followed by the template's
                generation prompt.
            pool: where images are loaded from.

        Yields `logprob`: float32 [m, answers of all queries], in nats under the full vocabulary,
        queries in order.
        """


class QuerySignal(Protocol):
    """A signal that is computed from the log-probabilities of the answers to one query."""

    @property
    def system(self) -> str: ...

    def query(self) -> Query: ...

    def read(self, logprob: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """The fields, each [m], and each row's error or "".

        Arguments:
            logprob: float [m, answers], in nats.
        """


_HINT = re.compile(rf"(?:{IMAGE_PLACEHOLDER}\s*)*Hint:")
_LEADING = re.compile(rf"\A(?:{IMAGE_PLACEHOLDER}\s*)+")
# linear time: each run of spaces is tried once
_INNER = re.compile(rf"(?:(?<!\s)\s+)?{IMAGE_PLACEHOLDER}\s*")


def format_exchanges(sample: Sample) -> str:
    """The row as `Question: {user} Answer: {assistant}` exchanges, joined by newlines. Image
    placeholders stay where they are.

    A user turn that begins with `Hint:` (behind its images) gets no `Question: ` (as in the
    official code). System turns and an unanswered user turn are left out.
    """
    return _exchanges(sample)[0]


def judge_prompt(sample: Sample, system: str) -> Sample:
    """The judge's prompt without a query: a system turn (unless `system` is empty) and one user
    turn with the exchanges. An image is where the row has it; images of turns that are left out are
    left out.

    Arguments:
        sample: the row to judge.
        system: text of the system turn; "": none.
    """
    text, images = _exchanges(sample)
    turns = (Turn("system", system), Turn("user", text)) if system else (Turn("user", text),)
    return Sample(sample.id, turns, images, sample.source, sample.problem, sample.media)


def _exchanges(sample: Sample) -> tuple[str, tuple[ImageRef, ...]]:
    """The text and the images of `format_exchanges`."""
    exchanges: list[str] = []
    images: list[ImageRef] = []
    question: list[str] = []  # user turns since the last answer
    shown: list[ImageRef] = []  # their images
    start = 0
    for turn in sample.turns:
        end = start + turn.text.count(IMAGE_PLACEHOLDER)
        own, start = sample.images[start:end], end
        if turn.role == "user":
            question.append(turn.text)
            shown += own
        elif turn.role == "assistant":
            asked = "\n".join(question)
            front = asked if _HINT.match(asked) else f"Question: {asked}"
            exchanges.append(f"{front} Answer: {turn.text}")
            images += [*shown, *own]
            question, shown = [], []
    return "\n".join(exchanges), tuple(images)


def generation_prompt(sample: Sample, system: str, query: str) -> Sample:
    """`judge_prompt` with the query at the end of the user turn, and an empty answer to
    generate.

    Arguments:
        sample: the row to judge.
        system: text of the system turn; "": none.
        query: the question.
    """
    row = judge_prompt(sample, system)
    user = Turn("user", row.turns[-1].text + query)
    return Sample(
        row.id,
        (*row.turns[:-1], user, Turn("assistant", "")),
        row.images,
        row.source,
        row.problem,
        row.media,
    )


def text_without_images(text: str) -> str:
    """The text without image placeholders."""
    if IMAGE_PLACEHOLDER not in text:
        return text
    front = text.lstrip()
    if front.startswith(IMAGE_PLACEHOLDER):
        text = _LEADING.sub("", front)
    end = len(text)
    before = len(text.rstrip())  # end of a final placeholder, if there is one
    while text.endswith(IMAGE_PLACEHOLDER, 0, before):
        end = before - len(IMAGE_PLACEHOLDER)
        while end and text[end - 1].isspace():
            end -= 1
        before = end
    return _INNER.sub(" ", text[:end])


def ask_batch(
    signals: Sequence[Any], samples: Sequence[Sample], backend: AskBackend, pool: SampleSource
) -> Iterator[list[Scored]]:
    """One pass for several signals.

    Arguments:
        signals: `QuerySignal`s of one model with the same system turn; those with the same query
            (the interaction styles) share its answers.
        samples: the rows.
        backend: computes the probabilities of the answers.
        pool: where images are loaded from.

    Yields lists with one Scored per signal, all with the same index.
    """
    systems = {s.system: None for s in signals}
    assert len(systems) == 1, "signals that share a pass must have the same system turn"
    queries = list({s.query(): None for s in signals})  # distinct, in order
    ends = np.cumsum([len(q.answers) for q in queries])
    where = {
        q: slice(end - len(q.answers), end) for q, end in zip(queries, ends.tolist(), strict=True)
    }
    rows = [judge_prompt(sample, next(iter(systems))) for sample in samples]
    for piece in backend.ask(rows, queries, pool):
        logprob = np.asarray(piece.values["logprob"], np.float64)
        scored = []
        for signal in signals:
            values, own_errors = signal.read(logprob[:, where[signal.query()]])
            errors = [e or own for e, own in zip(piece.errors, own_errors, strict=True)]
            scored.append(Scored(piece.index, values, errors))
        yield scored


class QuerySignalBase:
    """Base class of `QuerySignal`s: those with the same model and system turn share a pass.

    Not a dataclass, so that it adds nothing to the identity of a signal.
    """

    model: AnyModel
    system: str

    def inputs(self) -> Mapping[str, Signal]:
        return model_inputs(self.model)

    def batch_key(self) -> Hashable:
        return ("ask", self.model, self.system)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: AskBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        for scored in ask_batch([self], samples, backend, pool):
            yield scored[0]

    @classmethod
    def batch_rows(
        cls,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: AskBackend,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        """`signals`: those of one `batch_key()`, of any class."""
        return ask_batch(signals, samples, backend, pool)


def relative_probabilities(logprob: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities relative to the largest of each row, robust to invalid rows.

    Arguments:
        logprob: float64 [m, answers], in nats.

    Returns (`logprob` with zeros in invalid rows; relative probabilities [m, answers], 0 … 1;
    invalid: bool [m], rows with NaN or without a finite value).
    """
    top = logprob.max(axis=1, initial=-np.inf)
    invalid = ~np.isfinite(top) | np.isnan(logprob).any(axis=1)
    safe = np.where(invalid[:, None], 0.0, logprob)
    return safe, np.exp(safe - safe.max(axis=1, keepdims=True)), invalid
