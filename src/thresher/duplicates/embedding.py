"""What is stored of each row for semantic duplicates: what its pictures, its question and its answer mean to a model.

A row signal keyed by the model as every other. A vector is kept as `WIDTH` half-precision numbers: a model's own coordinates
where it has no more, else their projection by a fixed matrix of signs, which keeps cosines to within about (1 - cosine²) / 16
(Achlioptas, PODS 2001) and a large pool in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Protocol

import numpy as np

from thresher.duplicates import text
from thresher.duplicates.signals import order_of_roles
from thresher.errors import CapabilityError
from thresher.types import Capability, Columns, Field, ModelIdentity, Sample, SampleSource, Scored, Signal

WIDTH = 256
PARTS = ("images", "question", "answer")
_VECTOR = f"S{2 * WIDTH}"


class EmbedRows(Protocol):
    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """images, question, answer: float32 [m, d] of length 1, or zeros where a row has none."""


@dataclass(frozen=True)
class RowEmbedding:
    """Three vectors of length 1 a row."""

    model: ModelIdentity
    width: int = WIDTH

    kind: ClassVar[str] = "row_embedding"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.EMBED
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "form",
            "S8",
            "hash of the number of pictures, the order of speakers and, where they are short, the answers' words",
        ),
        Field("images", _VECTOR, f"mean state of the pictures' tokens: {WIDTH} x float16, little-endian; zeros: none"),
        Field("question", _VECTOR, "the same of all other tokens before the last answer"),
        Field("answer", _VECTOR, "the same of the answers' tokens"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: EmbedRows, pool: SampleSource
    ) -> Iterator[Scored]:
        if not hasattr(backend, "embed_rows"):
            raise CapabilityError(NO_STATES)
        for piece in backend.embed_rows(samples, pool):
            values: dict[str, np.ndarray] = {
                name: as_bytes(projected(piece.values[name], self.width)) for name in PARTS
            }
            values["form"] = np.array([form(samples[i]) for i in piece.index.tolist()], "S8")
            yield Scored(piece.index, values, piece.errors)


NO_STATES = (
    "--dedup semantic reads a model's hidden states, which a server does not give. Give --model with weights, or --dedup near, "
    "which compares words and pictures without a model."
)


def form(sample: Sample) -> bytes:
    """8 bytes: equal for rows of as many pictures in which user and assistant speak in the same order and say the same where
    they say little: of answers of a few words a model's states tell too little (yes and no look much alike).
    """
    words = text.tokens(text.said(sample, "assistant"))
    short = " ".join(words) if len(words) < text.SHORT else "\x1e"
    told = b"%d\x1f%s\x1f%s" % (len(sample.images), order_of_roles(sample), short.encode("utf-8", "surrogatepass"))
    return hashlib.blake2b(told, digest_size=8).digest()


def projected(vectors: np.ndarray, width: int) -> np.ndarray:
    """float32 [m, d] -> float32 [m, width]: as they are, padded with zeros, where d <= width.

    Each row by itself and in double precision, so that its numbers depend on nothing but itself.
    """
    m, d = vectors.shape
    if d <= width:
        return np.hstack([vectors, np.zeros((m, width - d), np.float32)])
    signs = _signs(d, width)
    out = np.array([row.astype(np.float64) @ signs for row in vectors]).reshape(m, width)
    return out.astype(np.float32)


@cache
def _signs(d: int, width: int) -> np.ndarray:
    """float64 [d, width]: +-1/sqrt(width), the same on every machine."""
    bits = hashlib.shake_256(b"thresher row embedding %d %d" % (d, width)).digest(d * width // 8)
    signs = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(d, width).astype(np.float64)
    return (2 * signs - 1) / np.sqrt(width)


def as_bytes(vectors: np.ndarray) -> np.ndarray:
    """float [m, WIDTH] -> "S512" [m]: float16, little-endian."""
    half = np.ascontiguousarray(vectors, "<f2")
    return half.view(f"S{half.shape[1] * 2}").reshape(len(half)) if len(half) else np.zeros(0, _VECTOR)


def from_bytes(column: np.ndarray) -> np.ndarray:
    """The inverse of `as_bytes`: float16 [m, WIDTH]."""
    return np.ascontiguousarray(column, _VECTOR).view("<f2").reshape(len(column), WIDTH)
