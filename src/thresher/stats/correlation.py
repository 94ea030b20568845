"""Agreement between a model's outputs and its teacher's on held-out rows."""

from __future__ import annotations

import numpy as np


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, -1..1; ties get their mean rank. NaN if either is constant.

    Arguments:
        a, b: floats [n]; pairs with a NaN are left out.

    >>> round(spearman(np.array([1.0, 2, 3, 4]), np.array([0, 0, 5, 5])), 4)
    0.8944
    """
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy.stats import spearmanr  # takes a second to import, and few commands need it

    return float(spearmanr(a, b).statistic)


def f1(predicted: np.ndarray, expected: np.ndarray) -> float:
    """F1 score of one label, 0..1; NaN if neither array has a positive.

    Arguments:
        predicted: bool [n].
        expected: bool [n].

    >>> round(f1(np.array([True, True, False]), np.array([True, False, True])), 2)
    0.5
    """
    total = int(predicted.sum()) + int(expected.sum())
    return 2 * int((predicted & expected).sum()) / total if total else float("nan")
