"""The loss of a row's answers, separately for function words and other words, so that a method can
weight them differently (DICS, arXiv:2608.30209) without another pass."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thresher.signals.answer_loss import score_some, without_images
from thresher.signals.reading import Reading, ReadingBackend, ReadTogether, finite
from thresher.types import AnyModel, Capability, Columns, Field, Sample, SampleSource, Scored

WORD_FIELDS = (
    Field(
        "content",
        "float32",
        "nats, sum over the tokens that are not of function words alone, >= 0; NaN: not asked",
    ),
    Field("content_tokens", "int32", "number of these tokens, >= 0"),
    Field("light", "float32", "nats, sum over the tokens of function words, >= 0; NaN: not asked"),
    Field("light_tokens", "int32", "number of these tokens, >= 0"),
)


@dataclass(frozen=True)
class WordLoss(ReadTogether):
    """`AnswerLoss` in two sums; read in the same pass as others of its model."""

    model: AnyModel
    image: bool = True
    """False: the loss of the same answer without the row's images."""

    kind: ClassVar[str] = "word_loss"
    version: ClassVar[int] = 2  # 2: from the end of the generation prompt
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = WORD_FIELDS

    def batch_key(self) -> Hashable:
        # without images, other signals of the pass would need other rows
        return super().batch_key() if self.image else (self.kind, self.model, self.image)

    def batch_rows(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: ReadingBackend,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        read = super().batch_rows
        if self.image:
            return read(signals, samples, inputs, backend, pool)
        bare = {i: without_images(sample) for i, sample in enumerate(samples) if sample.images}
        scored = score_some(
            len(samples),
            bare,
            self.fields,
            lambda rows: (piece for (piece,) in read(signals, rows, inputs, backend, pool)),
        )
        return ([piece] for piece in scored)

    def reading(self) -> Reading:
        return Reading(words=True)

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        return word_values(found)


def word_values(found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The fields of m rows out of a reading, and each row's error or ""."""
    values = {f.name: found[f.name] for f in WORD_FIELDS}
    _, errors = finite({name: values[name] for name in ("content", "light")}, "the loss")
    return values, errors


def weighted_mean(column: Mapping[str, np.ndarray], weight: float) -> np.ndarray:
    """Nats per token, float64 [n]; NaN where a row was not asked.

    Arguments:
        column: with `WORD_FIELDS`.
        weight: of a token of function words, above 0; others have 1.
    """
    total = np.asarray(column["content"], np.float64) + weight * column["light"]
    tokens = column["content_tokens"] + weight * column["light_tokens"]
    return np.divide(total, tokens, out=np.full(len(total), np.nan), where=tokens > 0)
