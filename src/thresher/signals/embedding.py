"""Embeddings of rows: the mean hidden state of a layer over a part of the row.

In a middle layer, rows that need the same skill are close to each other; in the last layer, rows
with the same next word. Question, answer and image have separate embeddings, because an image has
hundreds of tokens and would dominate a mean over all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from thresher.errors import ConfigError
from thresher.signals.reading import Reading, ReadTogether
from thresher.signals.vectors import VECTOR, WIDTH, as_bytes, from_bytes, project
from thresher.types import AnyModel, Capability, Field

Part = Literal["question", "answer", "image", "all"]
PARTS: tuple[Part, ...] = ("question", "answer", "image", "all")
NOT_FINITE = "not-finite: the model's hidden states are not finite numbers"


@dataclass(frozen=True)
class Embedding(ReadTogether):
    """A unit vector per row, computed in the same pass as `AnswerLoss`. Similar rows have a high
    cosine after the pool's mean is subtracted (all states share a large common direction)."""

    model: AnyModel
    layer: float = 0.5
    """Fraction of the model's depth, 0 … 1: 0 = token embeddings, 1 = last hidden states after the
    final norm. The layer is `layer * layers`, rounded half up."""
    part: Part = "question"
    """question: all tokens before the last answer except image and answer tokens, so template
    tokens and a system turn are included. answer: the tokens of all answers. image: the image
    tokens (Llama-3.2-Vision: one per image). all: all three."""

    kind: ClassVar[str] = "embedding"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.EMBED
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "vector",
            VECTOR,
            f"mean hidden state, length 1: {WIDTH} x float16, little-endian; read it with "
            "`Embedding.array`; zeros: the row has no token of this part",
        ),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.layer <= 1:
            raise ConfigError(
                f"layer={self.layer} is not a fraction of the model's depth. Give a number from 0 "
                "to 1."
            )
        if self.part not in PARTS:
            raise ConfigError(f"part={self.part} is unknown. Give {', '.join(PARTS)}.")
        object.__setattr__(self, "layer", float(self.layer))  # 1 and 1.0 are one signal

    @staticmethod
    def array(column: Mapping[str, np.ndarray]) -> np.ndarray:
        """The vectors of a column, float32 [n, 256].

        Arguments:
            column: this signal's values, `columns["name"]`.

        A hidden size below 256 is padded with zeros; a larger one is reduced to 256 by a fixed
        random projection.
        """
        return from_bytes(column["vector"]).astype(np.float32)

    def reading(self) -> Reading:
        return Reading(states=((self.layer, self.part),))

    def values(self, found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
        states = found["states"]
        odd = ~np.isfinite(states).all(axis=1)
        vectors = project(np.where(odd[:, None], 0, states).astype(np.float32), WIDTH)
        return {"vector": as_bytes(vectors)}, [NOT_FINITE if o else "" for o in odd.tolist()]
