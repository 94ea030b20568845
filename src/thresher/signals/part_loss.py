"""The loss of some rows under a model: those that it was not trained on, that are held out, or a
sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thresher.signals.answer_loss import AnswerLoss, LogprobBackend, losses_without_images
from thresher.types import (
    AnyModel,
    Capability,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Signal,
    model_inputs,
)


@dataclass(frozen=True)
class PartLoss:
    """`AnswerLoss` of the rows that `among` selects."""

    model: AnyModel
    among: Signal
    """A pool signal with a bool field `chosen`. A row's loss does not depend on it."""
    image: bool = True
    """False: the loss of the same answer without the row's images and videos. A row that cannot
    be asked without them has NaN, and does not fail: it is one of a sample."""

    kind: ClassVar[str] = "part_loss"
    version: ClassVar[int] = 2  # 2: from the end of the generation prompt
    added: ClassVar[Mapping[str, Any]] = {"image": True}
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = AnswerLoss.fields
    not_identity: ClassVar[tuple[str, ...]] = ("among",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = ()

    def inputs(self) -> Mapping[str, Signal]:
        return {"among": self.among, **model_inputs(self.model)}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: LogprobBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        if not self.image:
            yield from losses_without_images(samples, backend, pool, refused=False)
            return
        names = [f.name for f in self.fields]
        for piece in backend.answer_loss(samples, pool, False):
            values: dict[str, np.ndarray] = {name: piece.values[name] for name in names}
            yield Scored(piece.index, values, piece.errors)
