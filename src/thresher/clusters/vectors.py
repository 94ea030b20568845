"""Unit vectors in fixed point, so that their matrix products are exact.

A coordinate is an integer in units of 1 / `SCALE`. The dot product of two such vectors, and by
Cauchy-Schwarz every partial sum of it, is an integer below 2^24, which float32 represents exactly.
So any BLAS gives the same product, whatever its number of threads, block sizes and order of
summation. Rounding to 1/4000 affects a cosine less than float16 storage does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

SCALE = 4000  # (SCALE + rounding)^2 < 2^24 for up to 36,000 coordinates
BASIS_ROWS = 1 << 16  # maximum rows from which the principal components are computed
_BASIS = 1 << 12  # fixed-point scale of principal components
_CHUNK = 1 << 14  # rows converted at once, to limit memory; does not affect the result


def unit_vectors(parts: Sequence[np.ndarray], dims: int = 64) -> np.ndarray:
    """Combine several vectors per row into one unit vector, int16 [n, min(dims, total width)].

    Each part is scaled to unit length and centred (hidden states of a language model share a large
    common direction, which would make all rows similar). The parts are concatenated, reduced to
    `dims` principal components and scaled to length `SCALE`. The components are computed from the
    first `BASIS_ROWS` rows; in the order of their digests these are a random sample.

    Arguments:
        parts: float [n, d] each, in an order of rows that does not depend on the file. Zeros: the
            row has no such part.
        dims: maximum width of the result, >= 1.
    """
    n = len(parts[0])
    means = [_mean(part) for part in parts]
    width = sum(part.shape[1] for part in parts)
    basis = None
    if width > dims:
        sample = _centred(parts, means, slice(0, BASIS_ROWS)).astype(np.float64)
        basis = _principal(sample, dims)
    out = np.empty((n, min(width, dims)), np.int16)
    for rows in _chunks(n):
        joined = _centred(parts, means, rows).astype(np.float64)
        out[rows] = fixed_point(joined if basis is None else joined @ basis)
    return out


def fixed_point(vectors: np.ndarray) -> np.ndarray:
    """Scale float64 [m, d] to int16 [m, d] vectors of length `SCALE`; zero vectors stay zero."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return np.rint(vectors * (SCALE / np.where(length > 0, length, 1))).astype(np.int16)


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, _CHUNK):
        yield slice(start, min(start + _CHUNK, n))


def _mean(part: np.ndarray) -> np.ndarray:
    """Mean of the part's unit vectors over the rows that have the part, int16 [d]."""
    total, count = np.zeros(part.shape[1], np.int64), 0
    for rows in _chunks(len(part)):
        units = fixed_point(np.asarray(part[rows], np.float64))
        total += units.sum(axis=0, dtype=np.int64)
        count += int((units != 0).any(axis=1).sum())
    return np.rint(total / max(count, 1)).astype(np.int16)


def _centred(parts: Sequence[np.ndarray], means: Sequence[np.ndarray], rows: slice) -> np.ndarray:
    """The centred and concatenated parts of some rows, int16 [m, total width]."""
    out = []
    for part, mean in zip(parts, means, strict=True):
        units = fixed_point(np.asarray(part[rows], np.float64))
        units[(units != 0).any(axis=1)] -= mean
        out.append(units)
    return np.hstack(out)


def _principal(sample: np.ndarray, dims: int) -> np.ndarray:
    """The first principal components as integers, float64 [width, dims].

    The products are exact (below 2^53). Eigenvectors are not, but rounding removes their last bits,
    which may depend on the number of threads.
    """
    _, vectors = np.linalg.eigh(sample.T @ sample)
    return np.rint(vectors[:, -dims:] * _BASIS)
