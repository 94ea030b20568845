"""Signals that share one forward pass per row.

One teacher-forced pass gives the loss of the answers, the entropy of the predictions and the hidden
states. `ReadTogether` is the base class of such signals: each states what it needs of the pass and
computes its fields from the result. Signals of one model are computed together, without those that
are already stored.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from thresher.errors import CapabilityError, opt
from thresher.signals.function_words import function_word_spans
from thresher.types import (
    AnyModel,
    Capability,
    Columns,
    Sample,
    SampleSource,
    Scored,
    Signal,
    model_inputs,
)


class ReadingBackend(Protocol):
    """The part of a backend that these signals use; see `HFBackend.read`."""

    def read(
        self,
        samples: Sequence[Sample],
        pool: SampleSource,
        *,
        loss: bool,
        spread: bool,
        states: Sequence[tuple[float, str]],
        light_spans: Callable[[str], Sequence[tuple[int, int]]] | None,
        among_images: bool,
    ) -> Iterator[Scored]:
        """One forward pass over each row; yields the fields that are requested.

        Arguments:
            samples: n rows.
            pool: where images are loaded from.
            loss: yield the loss of the answers.
            spread: yield entropy and own_gap.
            states: (layer, part) of each hidden state to yield; layer: 0 … 1 of the depth; part:
                image, question, answer or all.
            light_spans: returns the character spans of light words in an answer; None: not needed.
            among_images: encode images as in a conversation with several.
        """


@dataclass(frozen=True, slots=True)
class Reading:
    """What a signal needs of the pass: arguments of `ReadingBackend.read`."""

    loss: bool = False
    spread: bool = False
    states: tuple[tuple[float, str], ...] = ()
    words: bool = False
    """The losses of function words and of other words apart."""


class ReadSignal(Protocol):
    """A signal that is computed from one forward pass over a row."""

    def reading(self) -> Reading: ...

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        """(fields of m rows, "" or an error for each row).

        Arguments:
            found: the result of `ReadingBackend.read`; `found["states"]`: float32 [m, d], of this
                signal's own layer and part.
        """


class ReadTogether:
    """Base class of `ReadSignal`s. Not a dataclass, so that it adds nothing to the identity."""

    model: AnyModel
    among_images: bool = False
    image: bool = True

    def reading(self) -> Reading:
        """What the signal needs of the pass."""
        raise NotImplementedError

    def inputs(self) -> Mapping[str, Signal]:
        return model_inputs(self.model)

    def batch_key(self) -> Hashable:
        return ("read", self.model, self.among_images, self.image)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: ReadingBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        for (piece,) in self.batch_rows([self], samples, inputs, backend, pool):
            yield piece

    def batch_rows(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: ReadingBackend,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        """`signals`: those of one `batch_key()`, of any class."""
        requested = [signal.reading() for signal in signals]
        if not hasattr(backend, "read"):
            yield from _losses(signals, samples, backend, pool, self.among_images)
            return
        states = list(dict.fromkeys(state for w in requested for state in w.states))
        for piece in backend.read(
            samples,
            pool,
            loss=any(w.loss for w in requested),
            spread=any(w.spread for w in requested),
            states=states,
            light_spans=function_word_spans if any(w.words for w in requested) else None,
            among_images=self.among_images,
        ):
            out = []
            for signal, w in zip(signals, requested, strict=True):
                found: dict[str, Any] = dict(piece.values)
                if w.states:
                    found["states"] = piece.values["states"][:, states.index(w.states[0])]
                values, odd = signal.values(found)
                errors = [given or own for given, own in zip(piece.errors, odd, strict=True)]
                out.append(Scored(piece.index, values, errors))
            yield out


def needs_weights(signal: Signal) -> bool:
    """Whether neither a server nor vLLM can compute the signal: it needs hidden states, entropies
    or the loss of single words, more than the loss of a row's answers."""
    if isinstance(signal, ReadTogether):
        return signal.reading() != Reading(loss=True)
    return getattr(signal, "needs", None) in (Capability.EMBED, Capability.GRADIENTS)


def _losses(
    signals: Sequence[Any],
    samples: Sequence[Sample],
    backend: Any,
    pool: SampleSource,
    among_images: bool,
) -> Iterator[list[Scored]]:
    """`batch_rows` with a backend that gives nothing but losses: a model behind a server or in
    vLLM."""
    names = sorted({signal.kind for signal in signals if needs_weights(signal)})
    if names:
        raise CapabilityError(
            f"{', '.join(names)}: these need a model's hidden states or whole distributions of "
            f"tokens, which neither a server nor vLLM returns. Give {opt('model')} with weights."
        )
    for piece in backend.answer_loss(samples, pool, among_images):
        out = []
        for signal in signals:
            values, odd = signal.values(piece.values)
            errors = [given or own for given, own in zip(piece.errors, odd, strict=True)]
            out.append(Scored(piece.index, values, errors))
        yield out


def finite(values: dict[str, np.ndarray], what: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The values, and an error for each row with a value that is not finite.

    Arguments:
        values: field -> float [m].
        what: the subject of the error.
    """
    odd = ~np.all([np.isfinite(column) for column in values.values()], axis=0)
    return values, [f"not-finite: {what} is not a finite number" if o else "" for o in odd.tolist()]
