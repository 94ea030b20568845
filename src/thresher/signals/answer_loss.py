"""The loss of a row's answers under a model, teacher-forced: the column that most methods start
from.

NLL of a row = mean negative log-likelihood of its answer tokens in nats, over all assistant turns;
prompt, image, template and end-of-turn tokens are masked. PPL = exp(NLL).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from thresher.signals.reading import Reading, ReadTogether
from thresher.types import (
    AnyModel,
    Capability,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
)

NOT_FINITE = "the loss is not a finite number"


class LogprobBackend(Protocol):
    """The part of a backend that this signal uses."""

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool
    ) -> Iterator[Scored]: ...


@dataclass(frozen=True)
class AnswerLoss(ReadTogether):
    """One forward pass a row, which gives other signals of the model too (`reading`). Lower `nll`:
    the model already expects the answer."""

    model: AnyModel
    among_images: bool = False
    """Encode each image as the model encodes it in a conversation of several images.

    Some architectures (LLaVA-OneVision) give an image fewer tokens when it is not alone. A
    zero-shot loss that is to be compared with a one-shot loss must see the same image tokens:
    `one_shot.zero_shot` sets this where it matters.
    """

    kind: ClassVar[str] = "answer_loss"
    version: ClassVar[int] = 2
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "nll",
            "float32",
            "nats per answer token, mean over all answer tokens of the row, >= 0; lower = better "
            "known",
        ),
        Field("tokens", "int32", "number of answer tokens, >= 1"),
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
        return backend.answer_loss(samples, pool, self.among_images)

    def reading(self) -> Reading:
        return Reading(loss=True)

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        odd = ~np.isfinite(found["nll"])
        return {f.name: found[f.name] for f in self.fields}, [NOT_FINITE * o for o in odd.tolist()]
