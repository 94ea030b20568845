"""The teacher-forced loss of a row's answers: the main column of most methods.

NLL of a row = mean negative log-likelihood of its answer tokens in nats, over all assistant turns;
prompt, image, template and end-of-turn tokens are masked. PPL = exp(NLL).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from thresher.signals.query import text_without_images
from thresher.signals.reading import Reading, ReadTogether, finite
from thresher.types import (
    IMAGE_PLACEHOLDER,
    AnyModel,
    Capability,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Turn,
)


class LogprobBackend(Protocol):
    """The part of a backend that this signal uses."""

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool
    ) -> Iterator[Scored]:
        """The loss of each row's answers.

        Arguments:
            samples: n rows.
            pool: where images are loaded from.
            among_images: encode images as in a conversation with several.

        Yields `nll` float32 [m], mean nats per answer token; `tokens` int32 [m], their number;
        `greedy_match` bool [m], whether greedy decoding gives exactly these answers.
        """


@dataclass(frozen=True)
class AnswerLoss(ReadTogether):
    """One forward pass per row, shared with other signals of the model (`reading`). Lower `nll`:
    the model already expects the answer."""

    model: AnyModel
    among_images: bool = False
    """Encode each image as the model encodes it in a conversation of several images.

    Some architectures (LLaVA-OneVision) give an image fewer tokens when it is not alone. A
    zero-shot loss that is to be compared with a one-shot loss must see the same image tokens:
    `one_shot.zero_shot` sets this where it matters.
    """
    image: bool = True
    """False: the loss of the same answer without the row's images and videos, see `VisualGain`."""

    kind: ClassVar[str] = "answer_loss"
    version: ClassVar[int] = 3  # 3: from the end of the generation prompt
    added: ClassVar[Mapping[str, Any]] = {"image": True}
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "nll",
            "float32",
            "nats per answer token, mean over all answer tokens of the row, >= 0; lower = better "
            "known; NaN: image=False, and the row has no image",
        ),
        Field("tokens", "int32", "number of answer tokens, >= 1; 0 where nll is NaN"),
        Field(
            "greedy_match",
            "bool",
            "every answer token, and the end of each answer, is the model's argmax given the "
            "tokens before it",
        ),
    )

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: LogprobBackend,  # type: ignore[override]
        pool: SampleSource,
    ) -> Iterator[Scored]:
        if self.image:
            return backend.answer_loss(samples, pool, self.among_images)
        return losses_without_images(samples, backend, pool)

    def batch_rows(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: Any,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        if self.image:
            return super().batch_rows(signals, samples, inputs, backend, pool)
        assert len(signals) == 1, "nothing else is read without the images"
        return ([piece] for piece in losses_without_images(samples, backend, pool))

    def reading(self) -> Reading:
        return Reading(loss=True)

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        _, errors = finite({"nll": found["nll"]}, "the loss")
        return {f.name: found[f.name] for f in self.fields}, errors


def losses_without_images(
    samples: Sequence[Sample],
    backend: LogprobBackend,
    pool: SampleSource,
    *,
    refused: bool = True,
) -> Iterator[Scored]:
    """`AnswerLoss` of rows whose images and videos are left out: the other tokens, and the
    template, as if the conversation had none. Rows without an image or video have NaN.

    Arguments:
        samples: n rows.
        backend: computes the losses.
        pool: where images are loaded from; none is.
        refused: whether rows that cannot be scored without their images have an error; False: NaN.
    """
    bare = {i: without_images(sample) for i, sample in enumerate(samples) if sample.images}
    if not refused:
        bare = {i: row for i, row in bare.items() if isinstance(row, Sample)}
    return score_some(
        len(samples),
        bare,
        AnswerLoss.fields,
        lambda rows: backend.answer_loss(rows, pool, False),
    )


def score_some(
    n: int,
    made: Mapping[int, Sample | str],
    fields: Sequence[Field],
    score: Callable[[Sequence[Sample]], Iterator[Scored]],
) -> Iterator[Scored]:
    """Score rows made from some of `n` samples; the others have no value (NaN and 0).

    Arguments:
        n: number of samples.
        made: index of a sample -> the row made from it, or its error.
        fields: of the values.
        score: scores the rows.
    """
    index = np.array([i for i, row in made.items() if isinstance(row, Sample)], np.int64)
    rest = np.setdiff1d(np.arange(n), index)
    if len(rest):
        blank = {
            f.name: np.full(len(rest), np.nan if f.dtype == "float32" else 0, f.dtype)
            for f in fields
        }
        yield Scored(rest, blank, [str(made.get(i, "")) for i in rest.tolist()])
    rows = [row for row in made.values() if isinstance(row, Sample)]
    for piece in score(rows) if rows else ():
        yield Scored(index[piece.index], piece.values, piece.errors)


def without_images(sample: Sample) -> Sample | str:
    """The row without its images and videos, or why they cannot be removed."""
    if any(t.role == "assistant" and IMAGE_PLACEHOLDER in t.text for t in sample.turns):
        return "an image or video is inside an answer, which would change without it"
    turns = tuple(Turn(t.role, text_without_images(t.text)) for t in sample.turns)
    return Sample(sample.id, turns, (), sample.source, sample.problem, sample.media)
