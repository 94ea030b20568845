"""How well a model answers as its teacher does, on rows that it has not learned from. Pure numpy."""

from __future__ import annotations

import numpy as np


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two arrays [n], -1 … 1, ties sharing their mean rank; NaN where one of them is constant.

    Pairs with a NaN are left out.

    >>> round(spearman(np.array([1.0, 2, 3, 4]), np.array([0, 0, 5, 5])), 4)
    0.8944
    """
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 2:
        return float("nan")
    x, y = (_ranks(np.asarray(v[both], np.float64)) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks, float64 [n], from 1."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def f1(found: np.ndarray, right: np.ndarray) -> float:
    """F1 of one label, 0 … 1, bool [n] each; NaN where neither has it anywhere.

    >>> round(f1(np.array([True, True, False]), np.array([True, False, True])), 2)
    0.5
    """
    total = int(found.sum()) + int(right.sum())
    return 2 * int((found & right).sum()) / total if total else float("nan")
