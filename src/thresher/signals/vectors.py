"""Vectors as values of a column: `WIDTH` half-precision coordinates per row.

The model's own coordinates are stored if there are at most `WIDTH`, else a projection by a fixed
random sign matrix, which preserves cosines to within about (1 - cosine²) / 16 (Achlioptas, PODS
2001). The projection is linear and the same for every pool and for all models of one width, so a
row's value depends only on the row: no basis has to be fitted, a grown pool keeps its columns, and
the mean of a pool can still be subtracted exactly.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np

WIDTH = 256
VECTOR = f"S{2 * WIDTH}"  # dtype of a field of vectors


def project(vectors: np.ndarray, width: int) -> np.ndarray:
    """Project vectors to `width`, float32 [m, d] -> float32 [m, width]; zero-padded if d <= width.

    Each row separately and in double precision, so that its result depends on nothing else.

    Arguments:
        vectors: float32 [m, d].
        width: number of dimensions of the result.
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
        half.view(f"S{half.shape[1] * 2}").reshape(len(half)) if len(half) else np.zeros(0, VECTOR)
    )


def from_bytes(column: np.ndarray) -> np.ndarray:
    """Inverse of `as_bytes`: float16 [m, WIDTH]."""
    return np.ascontiguousarray(column, VECTOR).view("<f2").reshape(len(column), WIDTH)


assert WIDTH % 8 == 0, "signs are generated eight at a time"
