"""Row embeddings for semantic duplicates: what a model makes of images, question and answer.

A row signal keyed by the model. A vector is stored as `WIDTH` half-precision numbers: the model's
own coordinates if it has no more, else a projection by a fixed random sign matrix, which preserves
cosines to within about (1 - cosine²) / 16 (Achlioptas, PODS 2001) and keeps a large pool in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Protocol

import numpy as np

from thresher.duplicates import text
from thresher.duplicates.signals import role_order_hash
from thresher.errors import CapabilityError
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

WIDTH = 256
PARTS = ("images", "question", "answer")
_VECTOR = f"S{2 * WIDTH}"


class EmbedRows(Protocol):
    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """images, question, answer: float32 [m, d] of length 1, or zeros where a row has none."""


@dataclass(frozen=True)
class RowEmbedding:
    """Three unit vectors per row: images, question, answer."""

    model: ModelIdentity
    width: int = WIDTH

    kind: ClassVar[str] = "row_embedding"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.EMBED
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "form",
            "S8",
            "hash of the number of images, the order of speakers and, where they are short, the "
            "answers' words",
        ),
        Field(
            "images",
            _VECTOR,
            f"mean state of the images' tokens: {WIDTH} x float16, little-endian; zeros: none",
        ),
        Field("question", _VECTOR, "the same of all other tokens before the last answer"),
        Field("answer", _VECTOR, "the same of the answers' tokens"),
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
            raise CapabilityError(NO_STATES)
        for piece in backend.embed_rows(samples, pool):
            values: dict[str, np.ndarray] = {
                name: as_bytes(project(piece.values[name], self.width)) for name in PARTS
            }
            values["form"] = np.array([form_hash(samples[i]) for i in piece.index.tolist()], "S8")
            yield Scored(piece.index, values, piece.errors)


NO_STATES = (
    "--dedup semantic reads a model's hidden states, which a server does not give. Give --model "
    "with weights, or --dedup near, which compares words and images without a model."
)


def form_hash(sample: Sample) -> bytes:
    """8 bytes, equal for rows with as many images, the same order of roles and the same short
    answers.

    A model's states distinguish answers of a few words poorly (yes and no are close), so short
    answers
    are compared as text.
    """
    words = text.tokens(text.text_of(sample, "assistant"))
    short = " ".join(words) if len(words) < text.SHORT else "\x1e"
    key = b"%d\x1f%s\x1f%s" % (
        len(sample.images),
        role_order_hash(sample),
        short.encode("utf-8", "surrogatepass"),
    )
    return hashlib.blake2b(key, digest_size=8).digest()


def project(vectors: np.ndarray, width: int) -> np.ndarray:
    """Project vectors to `width`, float32 [m, d] -> float32 [m, width]; zero-padded if d <= width.

    Each row separately and in double precision, so that its result depends on nothing else.
    """
    m, d = vectors.shape
    if d <= width:
        return np.hstack([vectors, np.zeros((m, width - d), np.float32)])
    signs = _signs(d, width)
    out = np.array([row.astype(np.float64) @ signs for row in vectors]).reshape(m, width)
    return out.astype(np.float32)


@cache
def _signs(d: int, width: int) -> np.ndarray:
    """The sign matrix, float64 [d, width], +-1/sqrt(width); the same on every machine."""
    bits = hashlib.shake_256(b"thresher row embedding %d %d" % (d, width)).digest(d * width // 8)
    signs = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(d, width).astype(np.float64)
    return (2 * signs - 1) / np.sqrt(width)


def as_bytes(vectors: np.ndarray) -> np.ndarray:
    """float [m, WIDTH] -> "S512" [m]: float16, little-endian."""
    half = np.ascontiguousarray(vectors, "<f2")
    return (
        half.view(f"S{half.shape[1] * 2}").reshape(len(half)) if len(half) else np.zeros(0, _VECTOR)
    )


def from_bytes(column: np.ndarray) -> np.ndarray:
    """Inverse of `as_bytes`: float16 [m, WIDTH]."""
    return np.ascontiguousarray(column, _VECTOR).view("<f2").reshape(len(column), WIDTH)
