"""Embeddings of rows by an embeddings server, in place of the hidden states of `Embedding`.

What a vector is, the server decides: with vLLM's pooling runner usually the state of the last token
after the last layer, of a model that was trained to embed. So there is no layer to choose.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import ConfigError, opt
from thresher.signals.embedding import PARTS, Embedding, Part
from thresher.signals.vectors import VECTOR, WIDTH, as_bytes, project
from thresher.types import (
    AnyModel,
    Capability,
    Columns,
    Field,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
)

NAME_EMBEDDER = (
    f"Give a model for them with {opt('embedder')}: a folder or a hub id (its weights run here), "
    "or URL#NAME of a server that gives embeddings (`vllm serve MODEL --runner pooling`)."
)


SIZE = Field(
    "size", "int32", "numbers of the server's vector; 0: the row has nothing of what was asked for"
)


def sizes(vectors: np.ndarray) -> np.ndarray:
    """The values of `SIZE`, int32 [m]. `vectors`: float32 [m, d], zeros where a row has none."""
    return np.where(vectors.any(axis=1), vectors.shape[1], 0).astype(np.int32)


def sizes_differ(size: np.ndarray, model: ModelIdentity) -> str:
    """Why vectors cannot be of one model, as `CheckedSignal.fault` says it; "": they can.

    A served model is known by its name alone: what is served under that name may have changed since
    the stored vectors were made.

    Arguments:
        size: int [m], numbers of each vector; 0 for none.
        model: the embedder.
    """
    known, rows = np.unique(size[size > 0], return_counts=True)
    if len(known) < 2:
        return ""
    name = model.weights.removeprefix("api:")
    counted = " and ".join(
        f"{pluralize(int(r))} with {int(n):,} numbers" for n, r in zip(known, rows, strict=True)
    )
    return (
        f"the vectors of {name!r} are of different models: {counted}. Serve the model under "
        f"another name, or give another {opt('store')}, so that all rows are embedded by one"
    )


class PoolingBackend(Protocol):
    """The part of a backend that this signal uses."""

    def embed_parts(
        self, samples: Sequence[Sample], pool: SampleSource, parts: Sequence[Part]
    ) -> Iterator[Scored]:
        """A field for each part: float32 [m, d] of length 1, zeros where a row has none.

        Arguments:
            samples: m rows.
            pool: where images are loaded from.
            parts: the parts to embed.
        """


@dataclass(frozen=True)
class PooledEmbedding:
    """A unit vector per row, read with `Embedding.array`; several parts of a row are asked for in
    one pass."""

    model: ModelIdentity
    """Of an embeddings server (`pooled`)."""
    part: Part = "question"
    """question: everything before the last answer, images and earlier answers included. answer:
    the texts of all answers. image: the images alone. all: the whole row."""

    kind: ClassVar[str] = "pooled_embedding"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.EMBED
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "vector",
            VECTOR,
            f"the server's vector, scaled to length 1: {WIDTH} x float16, little-endian; zeros: "
            "the row has nothing of this part",
        ),
        SIZE,
    )

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ConfigError(f"part={self.part} is unknown. Give {', '.join(PARTS)}.")

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def batch_key(self) -> Hashable:
        return ("embed", self.model)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: PoolingBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        for (piece,) in self.batch_rows([self], samples, inputs, backend, pool):
            yield piece

    def batch_rows(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: PoolingBackend,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        parts: list[Part] = [signal.part for signal in signals]
        for piece in backend.embed_parts(samples, pool, parts):
            vectors = [piece.values[part] for part in parts]
            yield [
                Scored(
                    piece.index,
                    {"vector": as_bytes(project(found, WIDTH)), SIZE.name: sizes(found)},
                    piece.errors,
                )
                for found in vectors
            ]

    def fault(self, values: Mapping[str, np.ndarray], errors: Sequence[str]) -> str:
        """An error if vectors of the column differ in size, as those of two models do."""
        return sizes_differ(values[SIZE.name], self.model)


def embedding_of(model: AnyModel, layer: float, part: Part) -> Embedding | PooledEmbedding:
    """The embedding of a part of a row by a model: its hidden states, or what its server gives.

    Arguments:
        model: the embedder.
        layer: depth of the hidden states, 0 to 1; a server's vectors have none.
        part: question, answer, image or all.
    """
    if isinstance(model, ModelIdentity) and model.pooled:
        return PooledEmbedding(model, part)
    return Embedding(model, layer, part)
