"""Weighted strata: equal groups by score, more rows from the higher ones (MLLM-Selector's
sampling).

    quota of group g  ∝  exp(alpha · g / (groups - 1)),  g = 0 the lowest scores … groups - 1 the
    highest

alpha = 0 takes the same number from every group (diversity only). The larger alpha, the more rows
come from the highest scores; in the limit the result is the top k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.samplers.apportionment import largest_remainder
from thresher.samplers.ordering import order_hashes
from thresher.samplers.stratified import stratified
from thresher.samplers.top_k import argsort_descending


@dataclass(frozen=True)
class WeightedStrata:
    """Result of `weighted_strata`.

    `rows`: int64 [k], highest group first, in `ties` order within a group. `group`: int32 [n], 0 =
    lowest scores. `quota`: int64 [groups], rows taken from each.
    """

    rows: np.ndarray
    group: np.ndarray
    quota: np.ndarray


def weighted_strata(
    score: np.ndarray,
    k: int,
    ties: np.ndarray,
    *,
    groups: int = 10,
    alpha: float = 2.0,
    balance: np.ndarray | None = None,
) -> WeightedStrata:
    """Take `min(k, n)` rows from `groups` equal-sized groups by `score`.

    Arguments:
        score: finite [n], larger is better; ties are broken by `ties`.
        k: number of rows to take.
        ties: uint64 [n], smallest first.
        groups: number of groups; with fewer rows than that, each row is a group.
        alpha: >= 0, how strongly higher groups are favoured.
        balance: int [n], >= 0, such as the source: within a group each value gets the same number
            of rows, as far as available. None: rows in `ties` order.

    A group that is exhausted passes its remainder on by the weights of the others; odd rows go to
    the higher groups. Once alpha / (groups - 1) > ln(2n), no row is due to a group before all
    higher groups are exhausted; then the last group's rows are taken by score too, which is exactly
    the top k.

    >>> score, ties = np.array([3.0, 1.0, 4.0, 2.0]), np.arange(4, dtype=np.uint64)
    >>> weighted_strata(score, 2, ties, groups=2, alpha=0.0).rows.tolist()
    [0, 1]
    >>> weighted_strata(score, 2, ties, groups=2, alpha=50.0).rows.tolist()
    [2, 0]
    """
    n = len(score)
    groups = max(min(groups, n), 1)
    order = argsort_descending(score, ties)[::-1]  # lowest first
    group = np.empty(n, np.int32)
    edges = np.arange(groups + 1) * n // groups
    for g in range(groups):
        group[order[edges[g] : edges[g + 1]]] = g
    size = np.diff(edges)
    step = alpha / (groups - 1) if groups > 1 else 0.0
    quota = _quotas(min(k, n), step * np.arange(groups), size)
    if step > np.log(2 * max(n, 1)):
        return WeightedStrata(order[::-1][: min(max(k, 0), n)], group, quota)
    rows = []
    for g in range(groups - 1, -1, -1):
        members = np.flatnonzero(group == g)
        label = (
            np.zeros(len(members), np.int64)
            if balance is None
            else _shuffle_labels(balance[members], ties[members])
        )
        rows.append(members[stratified(label, int(quota[g]), ties[members], "equal")])
    return WeightedStrata(np.concatenate(rows), group, quota)


def _quotas(total: int, log_weight: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Rows per group. Uses log weights, so that negligible weights still order the lower groups."""
    quota = np.zeros(len(size), np.int64)
    while (left := total - int(quota.sum())) > 0:
        free = size - quota
        open_ = free > 0
        weight = np.where(open_, np.exp(np.minimum(log_weight - log_weight[open_].max(), 0.0)), 0.0)
        left = min(left, int(free[weight > 0].sum()))
        # reversed: odd rows go to the higher groups
        quota += largest_remainder(left, weight[::-1], free[::-1])[::-1]
    return quota


def _shuffle_labels(label: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Renumber labels in a seeded order, so that odd rows do not go to the same source in every
    group.
    """
    names, first = np.unique(label[order_hashes(ties)], return_index=True)
    number = np.empty(len(names), np.int64)
    number[np.argsort(first)] = np.arange(len(names))
    return number[np.searchsorted(names, label)]
