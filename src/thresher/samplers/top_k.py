"""The rows with the highest scores."""

from __future__ import annotations

import numpy as np

from thresher.samplers.ordering import stable_order


def argsort_descending(score: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Row indices, int64 [n], highest `score` first, ties by `ties`, NaN last.

    Arguments:
        score: any real dtype [n].
        ties: uint64 [n], smallest first.

    >>> argsort_descending(np.array([1.0, 3.0, 3.0]), np.array([0, 9, 4], np.uint64)).tolist()
    [2, 1, 0]
    """
    if score.dtype.kind == "f":
        key = -score  # NaN sorts last either way
    elif score.dtype.kind in "iu":
        key = score.max(initial=0) - score.astype(np.int64)
    else:
        key = ~score.astype(bool)
    return stable_order(key, ties)


def top_k(score: np.ndarray, k: int, ties: np.ndarray) -> np.ndarray:
    """The `min(k, n)` rows with the highest `score`, best first, int64.

    Nested: a larger k gives the same rows and more.

    Arguments:
        score: float [n]; higher is better.
        k: number of rows, at least 0.
        ties: uint64 [n], smallest first among equal scores.
    """
    return argsort_descending(score, ties)[: max(k, 0)]
