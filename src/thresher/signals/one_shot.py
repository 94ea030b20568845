"""The loss of a row's answers after one demonstration, in context: CLIPPER's second stage.

The demonstration is a finished conversation with its own images; the row follows it in the same
conversation. Only the row's own answer tokens count. A demonstration is encoded once for all its
queries if the architecture allows that exactly; the backend decides, and the numbers are the same.

A pair that does not fit the model's context has no loss (NaN), like a row without a demonstration.
It is not an error of the row, which may fit by itself: that a row alone is too long is an error of
the zero-shot loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.signals.answer_loss import AnswerLoss
from thresher.types import (
    Capability,
    Columns,
    Field,
    ModelIdentity,
    RowError,
    Sample,
    SampleSource,
    Scored,
    Signal,
    digests_to_bytes,
)

MULTI_IMAGE_SHRINKING = ("llava_onevision",)
"""Architectures (config.json's model_type) that give an image fewer tokens when the conversation
has several."""


TOO_LONG = "too long"  # a kind of error
"""Beginning of a backend's error if the conversation, demonstration included, does not fit into the
model's context."""


def zero_shot(model: ModelIdentity) -> AnswerLoss:
    """The zero-shot loss to compare with a one-shot loss of the same model: both use the same image
    tokens."""
    return AnswerLoss(model, among_images=model.architecture in MULTI_IMAGE_SHRINKING)


class OneShotBackend(Protocol):
    """The part of a backend that this signal uses."""

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """The loss of each row's answer after a demonstration. Yields `nll` and `tokens`.

        Arguments:
            samples: n rows.
            demonstrations: n rows, the one before each sample.
            pool: where images are loaded from.
        """


@dataclass(frozen=True)
class OneShot:
    """NLL(answer | demonstration, question). The store's key is the pair (row, demonstration).

    demonstration: a pool signal whose field `digest` is that of each row's demonstration (b"":
    none,
        nll is NaN). It is not part of the identity, because the pair is the key: with another seed
        or a grown pool, only new pairs are computed.
    """

    model: ModelIdentity
    demonstration: Signal

    kind: ClassVar[str] = "one_shot"
    version: ClassVar[int] = 2  # 2: from the end of the generation prompt
    needs: ClassVar[Capability] = Capability.LOGPROBS
    not_identity: ClassVar[tuple[str, ...]] = ("demonstration",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = (("demonstration", "digest"),)
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "nll",
            "float32",
            "nats per answer token after one demonstration, mean, >= 0; NaN: no demonstration "
            "exists or fits",
        ),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"demonstration": self.demonstration}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: OneShotBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        assert inputs is not None
        digests = digests_to_bytes(inputs["demonstration"]["digest"])
        has = np.array([any(d) for d in digests], dtype=bool)
        without = np.flatnonzero(~has)
        if len(without):
            yield Scored(
                without, {"nll": np.full(len(without), np.nan, np.float32)}, [""] * len(without)
            )
        index = np.flatnonzero(has)
        if not len(index):
            return
        found: dict[bytes, Sample] = {}
        for i in index:
            if digests[i] not in found:
                found[digests[i]] = pool.by_digest(digests[i])
        queries = [samples[int(i)] for i in index]
        for piece in backend.one_shot(queries, [found[digests[int(i)]] for i in index], pool):
            long = np.array([RowError.parse(e).kind == TOO_LONG for e in piece.errors], dtype=bool)
            values = {
                "nll": np.where(long, np.float32(np.nan), piece.values["nll"]).astype(np.float32)
            }
            errors = ["" if too_long else e for too_long, e in zip(long, piece.errors, strict=True)]
            yield Scored(index[piece.index], values, errors)
