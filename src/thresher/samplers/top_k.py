"""The rows with the largest score."""

from __future__ import annotations

import numpy as np

from thresher.samplers.orders import stable_order


def best_first(score: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """All positions, int64 [n]: largest `score` first, equal scores by `ties`, NaN last.

    `score`: any real dtype [n]; `ties`: uint64 [n].

    >>> best_first(np.array([1.0, 3.0, 3.0]), np.array([0, 9, 4], np.uint64)).tolist()
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
    """The `min(k, n)` positions with the largest `score`, best first, int64 [k].

    A larger k gives the same rows and more: budgets are nested.
    """
    return best_first(score, ties)[: max(k, 0)]
