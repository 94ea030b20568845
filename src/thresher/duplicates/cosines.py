"""Which pairs of rows have cosines that reach a threshold in every part.

Products are computed in single precision, whose last bits depend on the number of threads and on
how rows are grouped. Pairs within `DOUBTFUL` of the threshold are therefore computed again, each on
its own in double precision: the result depends on the two vectors only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# more than the rounding error of a product of two half-precision unit vectors of 257 numbers
DOUBTFUL = 2e-5
_PAIRS = 1 << 14  # pairs computed again at once, which bounds the memory

Parts = Sequence[np.ndarray]
"""Unit vectors of the same rows, float [m, w] for each part."""


def similar(a: Parts, b: Parts, threshold: float) -> np.ndarray:
    """Whether all parts of a pair reach the threshold, bool [rows of a, rows of b].

    Arguments:
        a: the rows.
        b: the columns.
        threshold: minimum of the cosines.
    """
    near = np.ones((len(a[0]), len(b[0])), bool)
    for ours, theirs in zip(a, b, strict=True):
        _narrow(near, ours, theirs, threshold)
    return near


def first_similar(a: Parts, b: Parts, threshold: float) -> np.ndarray:
    """The first row of b similar to each row of a, int64; -1 if there is none.

    Later parts are compared only for rows that earlier ones leave.

    Arguments:
        a: rows that are looked up.
        b: rows that they are compared with.
        threshold: minimum of the cosines.
    """
    rows, columns = np.arange(len(a[0])), np.arange(len(b[0]))
    near = np.ones((len(rows), len(columns)), bool)
    for ours, theirs in zip(a, b, strict=True):
        _narrow(near, ours[rows], theirs[columns], threshold)
        left, right = near.any(axis=1), near.any(axis=0)
        near, rows, columns = near[left][:, right], rows[left], columns[right]
        if not len(rows):
            break
    out = np.full(len(a[0]), -1)
    out[rows] = columns[near.argmax(axis=1)] if len(rows) else 0
    return out


def _narrow(near: np.ndarray, a: np.ndarray, b: np.ndarray, threshold: float) -> None:
    """Leave the pairs of `near` whose cosine in this part reaches the threshold.

    `near`: bool [r, c], changed; `a`: float [r, w]; `b`: float [c, w].
    """
    products = a.astype(np.float32, copy=False) @ b.astype(np.float32, copy=False).T
    near &= products >= threshold - DOUBTFUL
    rows, columns = np.nonzero(near & (products < threshold + DOUBTFUL))
    for start in range(0, len(rows), _PAIRS):
        r, c = rows[start : start + _PAIRS], columns[start : start + _PAIRS]
        exact = np.einsum("ij,ij->i", a[r].astype(np.float64), b[c].astype(np.float64))
        near[r, c] = exact >= threshold
