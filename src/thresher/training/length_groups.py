"""Splits the rows of a batch into groups of similar length, so that a CPU computes less padding.
Pure numpy.
"""

from __future__ import annotations

import numpy as np

PASS_TOKENS = 100
"""Cost of one more pass through a tiny model on one core, in tokens; measured with the built-in
model."""


def group_by_length(lengths: np.ndarray, pass_tokens: int = PASS_TOKENS) -> list[np.ndarray]:
    """Split rows into groups that minimise padded tokens plus the cost of each group's pass.

    Arguments:
        lengths: int [n], tokens of each row. A group is padded to its longest row.
        pass_tokens: cost of one more pass, in tokens.

    Returns the indices of each group's rows, int64.

    >>> [g.tolist() for g in group_by_length(np.array([20, 90, 22, 21, 88]), pass_tokens=10)]
    [[0, 3, 2], [4, 1]]
    >>> [g.tolist() for g in group_by_length(np.array([20, 90, 22, 21, 88]), pass_tokens=1000)]
    [[0, 3, 2, 4, 1]]
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order].tolist()
    # for the first j rows in order: the least cost, and the start of the last group
    cost, group_start = [0], [0]
    for j in range(1, len(ordered) + 1):
        options = [cost[i] + (j - i) * ordered[j - 1] + pass_tokens for i in range(j)]
        best = min(range(j), key=options.__getitem__)
        cost.append(options[best])
        group_start.append(best)
    groups: list[np.ndarray] = []
    end = len(ordered)
    while end:
        groups.append(order[group_start[end] : end])
        end = group_start[end]
    return groups[::-1]
