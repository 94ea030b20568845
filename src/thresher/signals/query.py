"""Questions that a model is asked about a row, several of one row together: the query, the prompt's
body, the shared pass.

The row itself is the prompt's body, written out as exchanges; a query follows it inside the same
user turn. Signals whose `batch_key()` is equal share body and system turn, so a backend encodes
image and body once and runs all queries on that. `AskedTogether` is the frame of such a signal
(`judge`, `style`): it says what it asks and how it reads the answers.
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
    "AskedSignal",
    "AskedTogether",
    "Query",
    "ask_batch",
    "body",
    "derived",
    "shares",
    "text_without_images",
    "written",
]


class AskBackend(Protocol):
    """The part of a backend that judges use."""

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """`samples[i]`: an optional system turn and ONE user turn, whose text is the body.

        The prompt of query q is that turn with `body + q.text`, then the template's invitation to
        answer. Yields values {"logprob": float32 [m, sum(len(q.answers))]} in nats under the full
        vocabulary, queries in order.
        """


class AskedSignal(Protocol):
    """A signal that is one query of a row and a reading of its answers' log-probabilities."""

    @property
    def system(self) -> str: ...

    def query(self) -> Query: ...

    def read(self, logprob: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """float [m, answers] -> field name -> array [m], and "" or what is wrong with each row."""


_LEADING = re.compile(rf"\A(?:{IMAGE_PLACEHOLDER}\s*)+")
# linear: a run of spaces is tried once
_INNER = re.compile(rf"(?:(?<!\s)\s+)?{IMAGE_PLACEHOLDER}\s*")


def body(sample: Sample) -> str:
    """The row as exchanges: `Question: {human} Answer: {gpt}`, joined by newlines, without image
    placeholders.

    A human turn that begins with `Hint:` gets no `Question: ` (the official code's exception).
    System turns and a human turn that nothing answers are left out.
    """
    exchanges: list[str] = []
    question = ""
    for turn in sample.turns:
        if turn.role == "user":
            asked = text_without_images(turn.text)
            question = f"{question}\n{asked}" if question else asked
        elif turn.role == "assistant":
            front = question if question.startswith("Hint:") else f"Question: {question}"
            exchanges.append(f"{front} Answer: {text_without_images(turn.text)}")
            question = ""
    return "\n".join(exchanges)


def derived(sample: Sample, system: str) -> Sample:
    """The row as a judge sees it: a system turn (if any) and one user turn, all images first, then
    the body."""
    text = f"{IMAGE_PLACEHOLDER}\n" * len(sample.images) + body(sample)
    turns = (Turn("system", system), Turn("user", text)) if system else (Turn("user", text),)
    return Sample(sample.id, turns, sample.images, sample.source, sample.problem, sample.media)


def written(sample: Sample, system: str, query: str) -> Sample:
    """The judge's view of the row with the query in its user turn, and an answer to be written."""
    row = derived(sample, system)
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
    """The text, its placeholders gone: the images stand before the body."""
    if IMAGE_PLACEHOLDER not in text:
        return text
    front = text.lstrip()
    if front.startswith(IMAGE_PLACEHOLDER):
        text = _LEADING.sub("", front)
    end = len(text)
    before = len(text.rstrip())  # of a last placeholder, if one stands there
    while text.endswith(IMAGE_PLACEHOLDER, 0, before):
        end = before - len(IMAGE_PLACEHOLDER)
        while end and text[end - 1].isspace():
            end -= 1
        before = end
    return _INNER.sub(" ", text[:end])


def ask_batch(
    signals: Sequence[Any], samples: Sequence[Sample], backend: AskBackend, pool: SampleSource
) -> Iterator[list[Scored]]:
    """One pass for `AskedSignal`s of one model and one system turn: lists of one Scored a signal,
    with the same index.

    Signals that ask the same query (the interaction styles do) share its answer.
    """
    systems = {s.system: None for s in signals}
    assert len(systems) == 1, "signals that are asked together must have one system turn"
    queries = list({s.query(): None for s in signals})  # distinct, in order
    ends = np.cumsum([len(q.answers) for q in queries])
    where = {
        q: slice(end - len(q.answers), end) for q, end in zip(queries, ends.tolist(), strict=True)
    }
    rows = [derived(sample, next(iter(systems))) for sample in samples]
    for piece in backend.ask(rows, queries, pool):
        logprob = np.asarray(piece.values["logprob"], np.float64)
        scored = []
        for signal in signals:
            values, odd = signal.read(logprob[:, where[signal.query()]])
            errors = [given or own for given, own in zip(piece.errors, odd, strict=True)]
            scored.append(Scored(piece.index, values, errors))
        yield scored


class AskedTogether:
    """What every `AskedSignal` has: it is asked in one pass with all others of its model and system
    turn.

    No dataclass, so that it adds nothing to the identity of a signal.
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


def shares(logprob: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64 [m, answers] in nats -> (the same, zeros where `odd`; probabilities over the largest
    of their row, each 0 … 1; odd: bool [m], a row without any finite probability or with NaN)."""
    top = logprob.max(axis=1, initial=-np.inf)
    odd = ~np.isfinite(top) | np.isnan(logprob).any(axis=1)
    safe = np.where(odd[:, None], 0.0, logprob)
    return safe, np.exp(safe - safe.max(axis=1, keepdims=True)), odd
