"""How well a score tells wrong rows from right ones: AUC over a pool, and inside its skills."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def auc(score: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a wrong row has a higher score than a right one; equal scores count half.

    Arguments:
        score: float [n]; NaN: the row is left out.
        wrong: bool [n].

    NaN if there is no wrong row, or no right one.

    >>> auc(np.array([0.1, 0.2, 0.9, np.nan]), np.array([False, False, True, False]))
    1.0
    """
    return auc_within(score, wrong, np.zeros(len(score), np.int64))


def auc_within(score: np.ndarray, wrong: np.ndarray, group: np.ndarray) -> float:
    """Likewise, over all pairs of a wrong and a right row of the same group.

    Arguments:
        group: int [n], >= 0.

    >>> score, wrong = np.array([1.0, 2.0, 8.0, 9.0]), np.array([False, True, False, True])
    >>> auc(score, wrong), auc_within(score, wrong, np.array([0, 0, 1, 1]))
    (0.75, 1.0)
    """
    known = ~np.isnan(score)
    higher = pairs = 0.0
    order = np.flatnonzero(known)[np.argsort(group[known], kind="stable")]
    ends = np.flatnonzero(np.diff(group[order])) + 1
    for rows in np.split(order, ends):
        k = int(wrong[rows].sum())
        ranks = rankdata(score[rows])[wrong[rows]]
        higher += float(ranks.sum()) - k * (k + 1) / 2
        pairs += k * (len(rows) - k)
    return higher / pairs if pairs else float("nan")
