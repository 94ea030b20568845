"""mmSSR's sampler as published, in plain pandas: the reference implementation for ours.

As slow as the published one on purpose: every turn sorts the table, unpivots the styles and builds
lists of rows. Three details that are undefined in the published code are fixed: sorts are stable,
capabilities keep the given order, and a capability without rows is dropped.
"""

from __future__ import annotations

import pandas as pd


def select(
    ratings: pd.DataFrame,
    capabilities: list[str],
    budget: int,
    threshold: float = 0.0,
    shares: list[float] | None = None,
) -> list[int]:
    """Row labels, in the order taken. `ratings`: a column a capability, and `sty_1`, `sty_2`, …
    ("style+source" or None).

    `shares`: how much of a round's budget each capability gets, equal without.
    """
    share = dict(zip(capabilities, shares or [1.0] * len(capabilities), strict=True))
    candidates, chosen, there = ratings, [], list(capabilities)
    while len(chosen) < budget and there:
        left = budget - len(chosen)
        total = sum(share[c] for c in there)
        quotas = {c: max(int(left * share[c] / total), 1) for c in there}
        empty = []
        for capability in there:
            quota = min(quotas[capability], budget - len(chosen))
            ranked = candidates.sort_values(by=capability, ascending=False, kind="stable")
            taken = one_turn(ranked[ranked[capability] > threshold], quota)
            if not taken:
                empty.append(capability)
                continue
            candidates = candidates.drop(taken)
            chosen += taken
            if len(chosen) >= budget:
                break
        there = [c for c in there if c not in empty]
    return chosen


def one_turn(ranked: pd.DataFrame, quota: int) -> list[int]:
    """Rows of one capability, best first: out of every group, smallest first, with what a group
    lacks carried over."""
    styles = ranked[[c for c in ranked.columns if str(c).startswith("sty_")]]
    long = styles.melt(ignore_index=False, value_name="style").dropna(subset=["style"])
    long = long.rename_axis("row").reset_index()
    if long.empty:
        return []
    groups = long.groupby("style")["row"].apply(list)
    groups = groups.sort_values(key=lambda lists: lists.apply(len), kind="stable")
    each = max(quota // len(groups), 1)
    taken: dict[int, None] = {}
    debt = 0
    for _, rows in groups.items():
        if len(taken) >= quota:
            break
        free = [row for row in rows if row not in taken]
        expected = each + debt
        taken.update(dict.fromkeys(free[:expected]))
        debt = max(expected - len(free), 0)
    return list(taken)
