"""Groups of rows by score, more rows from the higher groups, a fair draw inside each: MLLM-Selector's sampling.

    quota of group g  ∝  exp(alpha · g / (groups - 1)),  g = 0 the lowest scores … groups - 1 the highest

alpha = 0 takes the same from every group: diversity alone. The larger alpha, the more the highest scores get; in the
limit the rows are the top k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thresher.samplers.allocate import allocate
from thresher.samplers.stratified import stratified
from thresher.samplers.top_k import best_first


@dataclass(frozen=True)
class Grouped:
    """`rows`: int64 [k], highest group first, inside a group in the order of `ties`. `group`: int32 [n], 0 = lowest
    scores. `quota`: int64 [groups], rows taken from each."""

    rows: np.ndarray
    group: np.ndarray
    quota: np.ndarray


def grouped(
    score: np.ndarray,
    k: int,
    ties: np.ndarray,
    *,
    groups: int = 10,
    alpha: float = 2.0,
    balance: np.ndarray | None = None,
) -> Grouped:
    """`min(k, n)` positions out of `groups` equal groups by `score`.

    `score`: finite [n]; equal scores are parted by `ties`. `alpha`: >= 0. `balance`: int >= 0 [n], for example the
    source: inside a group each gives the same number, as far as it has them; None: a plain draw. Fewer rows than
    groups: as many groups as rows. A group that runs out passes its rest on by the weights of the others; odd rows go
    to the higher groups.

    Once alpha is so large that no row is due to a group before all above it are given whole (alpha / (groups - 1)
    above ln 2n), the last group's rows are taken by score as well: exactly the top k.

    >>> grouped(np.array([3.0, 1.0, 4.0, 2.0]), 2, np.arange(4, dtype=np.uint64), groups=2, alpha=0.0).rows.tolist()
    [0, 1]
    >>> grouped(np.array([3.0, 1.0, 4.0, 2.0]), 2, np.arange(4, dtype=np.uint64), groups=2, alpha=50.0).rows.tolist()
    [2, 0]
    """
    n = len(score)
    groups = max(min(groups, n), 1)
    order = best_first(score, ties)[::-1]  # lowest first
    group = np.empty(n, np.int32)
    edges = np.arange(groups + 1) * n // groups
    for g in range(groups):
        group[order[edges[g] : edges[g + 1]]] = g
    size = np.diff(edges)
    step = alpha / (groups - 1) if groups > 1 else 0.0
    quota = _quotas(min(k, n), step * np.arange(groups), size)
    if step > np.log(2 * max(n, 1)):
        return Grouped(order[::-1][: min(max(k, 0), n)], group, quota)
    rows = []
    for g in range(groups - 1, -1, -1):
        members = np.flatnonzero(group == g)
        kind = np.zeros(len(members), np.int64) if balance is None else _fair_labels(balance[members], ties[members])
        rows.append(members[stratified(kind, int(quota[g]), ties[members], "equal")])
    return Grouped(np.concatenate(rows), group, quota)


def _quotas(total: int, log_weight: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Rows per group. In logarithms: weights that are next to nothing beside the highest still order the others."""
    quota = np.zeros(len(size), np.int64)
    while (left := total - int(quota.sum())) > 0:
        free = size - quota
        open_ = free > 0
        weight = np.where(open_, np.exp(np.minimum(log_weight - log_weight[open_].max(), 0.0)), 0.0)
        left = min(left, int(free[weight > 0].sum()))
        quota += allocate(left, weight[::-1], free[::-1])[::-1]  # reversed: odd rows go to the higher groups
    return quota


def _fair_labels(label: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Labels as 0 … in a seeded order: an odd row must not go to the same source in every group."""
    names, first = np.unique(label[np.argsort(ties, kind="stable")], return_index=True)
    place = np.empty(len(names), np.int64)
    place[np.argsort(first)] = np.arange(len(names))
    return place[np.searchsorted(names, label)]
