"""A method's selection made to satisfy quotas and to hold rows that are taken anyway. Pure.

The method is asked once; where a group must give more or fewer rows than it took, the method is asked again on that
group's rows alone. Groups whose count already fits keep what the first answer took. Best first: rows taken anyway, then,
if a group was asked again, the groups interleaved so that any beginning of the list has the mixture of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thresher.mixture.quotas import Bounds, Groups, bounds, targets
from thresher.types import Columns, Selection

Ask = Callable[[Columns, int], Selection]
"""The method: rows of the columns given, at most so many, best first."""

METHOD, KEEP, QUOTA, UNSCORABLE = "method", "keep", "quota", "unscorable"


@dataclass(frozen=True)
class Given:
    """Rows that are taken whatever the method says. `keep`: bool [n] over the columns' rows; `outside`: the group of each
    further row that is not among them, int64 [e]."""

    keep: np.ndarray
    outside: np.ndarray


def choose(ask: Ask, columns: Columns, k: int, given: Given, groups: Groups | None, group: np.ndarray) -> Selection:
    """`k` rows in all, of which the returned ones are among `columns`: k less the rows outside.

    `group`: int [n], the columns' rows' groups; ignored without `groups`. The reason `taken_by` says of each row of the
    columns what took it: method, quota (its group was asked again), keep, or "" (not taken). Raises ConfigError for quotas
    that cannot be met.
    """
    n = len(columns)
    free = np.flatnonzero(~given.keep)
    kept = np.flatnonzero(given.keep)
    kept = kept[np.argsort(columns.ties[kept], kind="stable")]
    room = k - len(kept) - len(given.outside)
    assert room >= 0, "the rows taken anyway are more than the budget: to be refused before"
    whole = ask(columns, min(k, n))
    part = (
        whole
        if len(free) == n and room == min(k, n)
        else _onto(whole, ask(columns.take(free), min(room, len(free))), free)
    )
    rows, reason, notes = part.rows, dict(part.reason), list(part.notes)
    taken_by = np.full(n, "", "U10")
    taken_by[rows] = METHOD
    if groups is not None:
        limits = _limits(groups, group, given, k)
        chosen = np.bincount(group[rows], minlength=len(groups))
        wanted = targets(limits, chosen, min(room, len(free)))
        if not np.array_equal(wanted, chosen):
            rows = _again(ask, columns, free, group, part, wanted, limits, reason, notes, taken_by)
            about = " What follows is on its own choice, before that." if notes else ""
            notes.insert(0, _moved(groups, chosen, wanted) + about)
    taken_by[kept] = KEEP
    reason["taken_by"] = taken_by
    rows = np.concatenate([kept, rows]).astype(np.int64)
    return Selection(rows, reason, tuple(dict.fromkeys(notes)), whole.findings)


def _limits(groups: Groups, group: np.ndarray, given: Given, k: int) -> Bounds:
    g = len(groups)
    outside = np.bincount(given.outside, minlength=g)
    taken = np.bincount(group[given.keep], minlength=g) + outside
    there = np.bincount(group, minlength=g) + outside
    return bounds(groups, there, taken, k)


def _again(
    ask: Ask,
    columns: Columns,
    free: np.ndarray,
    group: np.ndarray,
    part: Selection,
    wanted: np.ndarray,
    limits: Bounds,
    reason: dict[str, np.ndarray],
    notes: list[str],
    taken_by: np.ndarray,
) -> np.ndarray:
    """Each group's rows, best first, asked again where the count is another. Fills in `reason`."""
    pieces = []
    for g in range(len(wanted)):
        mine = part.rows[group[part.rows] == g]
        if len(mine) != wanted[g]:
            members = free[group[free] == g]
            taken_by[mine] = ""
            answer = ask(columns.take(members), int(wanted[g])) if wanted[g] else None
            mine = members[:0] if answer is None else members[answer.rows]
            if answer is not None:
                _overwrite(reason, answer, members)
                least = int(limits.low[g] - limits.given[g])
                if len(mine) < least:  # the method found no more, and the quota says there must be
                    left = np.setdiff1d(members, mine)
                    left = left[np.argsort(columns.ties[left], kind="stable")][: least - len(mine)]
                    notes.append(f"{len(left):,} rows were drawn at random for a quota: the method found no more.")
                    mine = np.concatenate([mine, left])
            taken_by[mine] = QUOTA
        pieces.append(mine)
    order = interleaved([len(p) for p in pieces])
    ordered: np.ndarray = np.concatenate(pieces)[order]
    return ordered


def interleaved(sizes: list[int]) -> np.ndarray:
    """Positions of lists laid end to end, int64 [sum], so that every beginning holds each in proportion to its size.

    >>> interleaved([2, 4]).tolist()
    [2, 0, 3, 4, 1, 5]
    """
    place = np.concatenate([(np.arange(s) + 0.5) / s for s in sizes if s] or [np.zeros(0)])
    return np.argsort(np.round(place, 12), kind="stable")


def _onto(whole: Selection, part: Selection, at: np.ndarray) -> Selection:
    """`part`, of the rows `at` of all, with the reasons of `whole` where it has none."""
    reason = {name: np.array(a) for name, a in whole.reason.items()}
    _overwrite(reason, part, at)
    return Selection(at[part.rows], reason, part.notes, whole.findings)


def _overwrite(reason: dict[str, np.ndarray], answer: Selection, at: np.ndarray) -> None:
    """What the later answer says of the rows `at`."""
    for name, values in answer.reason.items():
        given = np.asarray(values)
        if name in reason:
            kind = np.promote_types(reason[name].dtype, given.dtype)
            reason[name] = reason[name].astype(kind)  # a copy: the method's own array stays
            reason[name][at] = given


def _moved(groups: Groups, before: np.ndarray, after: np.ndarray) -> str:
    """ "Quotas moved rows: ocr_vqa 120 -> 200, all other rows 880 -> 800." """
    changed = [
        f"{name} {int(b):,} -> {int(a):,}" for name, b, a in zip(groups.names, before, after, strict=True) if a != b
    ]
    shown = changed[:12] + ([f"and {len(changed) - 12} more"] if len(changed) > 12 else [])
    return f"Quotas moved rows from where the method took them: {', '.join(shown)}."
