"""Row embeddings for semantic duplicates: of images, question and answer.

A row signal keyed by the model: mean hidden states, or the vectors of an embeddings server. They
are stored as `signals.vectors` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.duplicates import text
from thresher.duplicates.signals import role_order_hash
from thresher.errors import CapabilityError, opt
from thresher.signals.pooled_embedding import NAME_EMBEDDER, SIZE, sizes, sizes_differ
from thresher.signals.vectors import VECTOR, WIDTH, as_bytes, project
from thresher.types import (
    Capability,
    Columns,
    Field,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
)

PARTS = ("images", "question", "answer")


class EmbedRows(Protocol):
    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """images, question, answer: float32 [m, d] of length 1, or zeros where a row has none.

        Arguments:
            samples: m rows.
            pool: where images are loaded from.
        """


@dataclass(frozen=True)
class RowEmbedding:
    """Three unit vectors per row: images, question, answer."""

    model: ModelIdentity
    width: int = WIDTH

    kind: ClassVar[str] = "row_embedding"
    version: ClassVar[int] = 2
    needs: ClassVar[Capability] = Capability.EMBED
    requests: ClassVar[int] = len(PARTS)  # of a row, where a server embeds it
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "form",
            "S8",
            "hash of the number of images, the order of speakers and, where they are short, the "
            "answers' words",
        ),
        Field(
            "images",
            VECTOR,
            f"mean state of the images' tokens: {WIDTH} x float16, little-endian; zeros: none",
        ),
        Field("question", VECTOR, "the same of all other tokens before the last answer"),
        Field("answer", VECTOR, "the same of the answers' tokens"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: EmbedRows,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        if not hasattr(backend, "embed_rows"):
            raise CapabilityError(NO_EMBEDDINGS)
        for piece in backend.embed_rows(samples, pool):
            yield Scored(piece.index, self._values(piece, samples), piece.errors)

    def _values(self, piece: Scored, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {
            name: as_bytes(project(piece.values[name], self.width)) for name in PARTS
        }
        values["form"] = np.array([form_hash(samples[i]) for i in piece.index.tolist()], "S8")
        return values


@dataclass(frozen=True)
class PooledRowEmbedding(RowEmbedding):
    """The same three vectors by an embeddings server, and their size."""

    kind: ClassVar[str] = "pooled_row_embedding"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (*RowEmbedding.fields, SIZE)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: EmbedRows,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        for piece in backend.embed_rows(samples, pool):
            of_parts = [sizes(piece.values[name]) for name in PARTS]
            values = self._values(piece, samples) | {SIZE.name: np.max(of_parts, axis=0)}
            yield Scored(piece.index, values, piece.errors)

    def fault(self, values: Mapping[str, np.ndarray], errors: Sequence[str]) -> str:
        """An error if vectors of the column differ in size, as those of two models do."""
        return sizes_differ(values[SIZE.name], self.model)


NO_EMBEDDINGS = (
    f"{opt('dedup', 'semantic')} needs embeddings of the rows, which this model does not give. "
    f"{NAME_EMBEDDER} {opt('dedup', 'near')} compares words and images without a model."
)


def form_hash(sample: Sample) -> bytes:
    """8 bytes, equal for rows with as many images, the same order of roles and the same short
    answers.

    A model's states distinguish answers of a few words poorly (yes and no are close), so short
    answers are compared as text.
    """
    words = text.tokens(text.text_of(sample, "assistant"))
    short = " ".join(words) if len(words) < text.SHORT else "\x1e"
    key = b"%d\x1f%s\x1f%s" % (
        len(sample.images),
        role_order_hash(sample),
        short.encode("utf-8", "surrogatepass"),
    )
    return hashlib.blake2b(key, digest_size=8).digest()
