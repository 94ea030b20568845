"""Quotas and kept rows hold for every method, also for groups with one row or none left."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.planted_columns import sample_columns, target_columns
from thresher.methods import METHODS, load
from thresher.methods.needs import needs_target
from thresher.mixture.constrain import ForcedRows, constrained_selection
from thresher.mixture.quotas import Groups
from thresher.mixture.spec import parse_quota
from thresher.types import Columns, Selection

N, K = 240, 60
# rows of the groups a, b and the rest; quotas; rows of each that are kept; rows of the rest outside
# the columns
CASES = [
    ((100, 100, 40), ("a=30", "b=..5"), (0, 0, 0), 0),
    ((1, 2, 237), ("a=1", "b=2"), (0, 0, 0), 0),
    ((60, 60, 120), ("a=50%..", "b=0"), (4, 0, 3), 3),
    ((120, 120, 0), ("a=0", "b=100%"), (0, 9, 0), 0),
    ((120, 60, 60), ("a=..50%", "b=1%..99%"), (20, 20, 20), 0),  # all that is taken is kept
    ((120, 60, 60), ("a=..50", "b=1.."), (0, 5, 0), 55),  # all but what is kept is outside
]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("sizes", "quotas", "kept", "outside"), CASES)
def test_quotas_and_kept_rows_hold(
    name: str, sizes: tuple[int, ...], quotas: tuple[str, ...], kept: tuple[int, ...], outside: int
) -> None:
    method, columns = load(name), sample_columns(N)

    def ask(given: Columns, k: int) -> Selection:
        return method.select(given, k, target_columns() if needs_target(method) else None)

    group = np.random.default_rng(1).permutation(np.repeat(np.arange(3), sizes))
    keep = np.zeros(N, bool)
    for g, many in enumerate(kept):
        keep[np.flatnonzero(group == g)[:many]] = True
    parsed = tuple(parse_quota(q) for q in quotas)
    groups, given = (
        Groups(parsed, group.astype(np.int32)),
        ForcedRows(keep, np.full(outside, 2, np.int64)),
    )
    chosen = constrained_selection(ask, columns, K, given, groups, group)

    assert len(chosen.rows) == K - outside == len(np.unique(chosen.rows))
    assert set(np.flatnonzero(keep)) <= set(chosen.rows.tolist())
    count = np.bincount(group[chosen.rows], minlength=3)
    for g, quota in enumerate(parsed):
        low, high = quota.rows(K)
        assert low <= count[g] and (high is None or count[g] <= high)
    assert all(len(array) == N for array in chosen.reason.values())
    taken = chosen.reason["taken_by"]
    assert (taken[chosen.rows] != "").all() and (taken != "").sum() == len(chosen.rows)
    assert (
        constrained_selection(ask, columns, K, given, groups, group).rows.tolist()
        == chosen.rows.tolist()
    )
