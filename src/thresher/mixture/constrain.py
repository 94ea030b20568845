"""Constrain a method's selection to quotas and forced rows. Pure.

The method runs once. Where a group must give more or fewer rows than were selected, it runs again
on
that group's rows alone; groups whose count fits keep their rows of the first run. Order: forced
rows, then the selected ones; if a group ran again, groups are interleaved so that every prefix has
the mixture of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thresher.mixture.quotas import Bounds, Groups, bounds, group_targets
from thresher.types import Columns, Selection

SelectFn = Callable[[Columns, int], Selection]
"""The method: (columns, maximum number of rows) -> selection, best first."""

METHOD, KEEP, QUOTA, UNSCORABLE = "method", "keep", "quota", "unscorable"


@dataclass(frozen=True)
class ForcedRows:
    """Rows that are taken whatever the method selects.

    `keep`: bool [n] over the rows of the columns. `outside`: int64 [e], the group of each forced
    row that is not among them.
    """

    keep: np.ndarray
    outside: np.ndarray


def constrained_selection(
    method: SelectFn,
    columns: Columns,
    k: int,
    given: ForcedRows,
    groups: Groups | None,
    group: np.ndarray,
) -> Selection:
    """Select `k` rows in total, including forced ones; returns those among `columns`.

    The reason `taken_by` states why each row was taken: method, quota (its group ran again), keep,
    or "" (not taken).

    Arguments:
        method: the method.
        columns: n rows.
        k: number of rows, including those of `given.outside`.
        given: forced rows.
        groups: the quotas; None for none.
        group: int [n], the rows' groups; ignored without `groups`.

    Raises ConfigError for quotas that cannot be met.
    """
    n = len(columns)
    free = np.flatnonzero(~given.keep)
    kept = np.flatnonzero(given.keep)
    kept = kept[np.argsort(columns.ties[kept], kind="stable")]
    room = k - len(kept) - len(given.outside)
    assert room >= 0, "more forced rows than the budget: must be rejected before"
    whole = method(columns, min(k, n))
    part = (
        whole
        if len(free) == n and room == min(k, n)
        else _merge(whole, method(columns.take(free), min(room, len(free))), free)
    )
    rows, reason, notes = part.rows, dict(part.reason), list(part.notes)
    taken_by = np.full(n, "", "U10")
    taken_by[rows] = METHOD
    if groups is not None:
        limits = _limits(groups, group, given, k)
        chosen = np.bincount(group[rows], minlength=len(groups))
        target = group_targets(limits, chosen, min(room, len(free)))
        if not np.array_equal(target, chosen):
            rows = _reselect(
                method, columns, free, group, part, target, limits, reason, notes, taken_by
            )
            about = " The following notes are about its selection before that." if notes else ""
            notes.insert(0, _moved(groups, chosen, target) + about)
    taken_by[kept] = KEEP
    reason["taken_by"] = taken_by
    rows = np.concatenate([kept, rows]).astype(np.int64)
    return Selection(rows, reason, tuple(dict.fromkeys(notes)), whole.findings)


def _limits(groups: Groups, group: np.ndarray, given: ForcedRows, k: int) -> Bounds:
    g = len(groups)
    outside = np.bincount(given.outside, minlength=g)
    taken = np.bincount(group[given.keep], minlength=g) + outside
    available = np.bincount(group, minlength=g) + outside
    return bounds(groups, available, taken, k)


def _reselect(
    method: SelectFn,
    columns: Columns,
    free: np.ndarray,
    group: np.ndarray,
    part: Selection,
    target: np.ndarray,
    limits: Bounds,
    reason: dict[str, np.ndarray],
    notes: list[str],
    taken_by: np.ndarray,
) -> np.ndarray:
    """Each group's rows, best first, reselected where the count differs. Fills `reason`."""
    pieces = []
    for g in range(len(target)):
        selected = part.rows[group[part.rows] == g]
        if len(selected) != target[g]:
            members = free[group[free] == g]
            taken_by[selected] = ""
            answer = method(columns.take(members), int(target[g])) if target[g] else None
            selected = members[:0] if answer is None else members[answer.rows]
            if answer is not None:
                _overwrite(reason, answer, members)
                least = int(limits.low[g] - limits.given[g])
                if len(selected) < least:  # the method found too few for the quota
                    left = np.setdiff1d(members, selected)
                    left = left[np.argsort(columns.ties[left], kind="stable")][
                        : least - len(selected)
                    ]
                    notes.append(
                        f"{len(left):,} rows were sampled at random for a quota: the method found "
                        "no more."
                    )
                    selected = np.concatenate([selected, left])
            taken_by[selected] = QUOTA
        pieces.append(selected)
    order = interleaved([len(p) for p in pieces])
    ordered: np.ndarray = np.concatenate(pieces)[order]
    return ordered


def interleaved(sizes: list[int]) -> np.ndarray:
    """Indices of concatenated lists, int64 [sum], so that every prefix is proportional to their
    sizes.

    >>> interleaved([2, 4]).tolist()
    [2, 0, 3, 4, 1, 5]
    """
    place = np.concatenate([(np.arange(s) + 0.5) / s for s in sizes if s] or [np.zeros(0)])
    return np.argsort(np.round(place, 12), kind="stable")


def _merge(whole: Selection, part: Selection, index: np.ndarray) -> Selection:
    """`part`, a selection from the rows `index`, with the reasons of `whole` for all others."""
    reason = {name: np.array(a) for name, a in whole.reason.items()}
    _overwrite(reason, part, index)
    return Selection(index[part.rows], reason, part.notes, whole.findings)


def _overwrite(reason: dict[str, np.ndarray], answer: Selection, index: np.ndarray) -> None:
    """Replace the reasons of the rows `index` by those of a later answer."""
    for name, values in answer.reason.items():
        given = np.asarray(values)
        if name in reason:
            kind = np.promote_types(reason[name].dtype, given.dtype)
            reason[name] = reason[name].astype(kind)  # a copy: the method's own array stays
            reason[name][index] = given


def _moved(groups: Groups, before: np.ndarray, after: np.ndarray) -> str:
    """A note: "Quotas moved rows …: ocr_vqa 120 -> 200, all other rows 880 -> 800"."""
    changed = [
        f"{name} {int(b):,} -> {int(a):,}"
        for name, b, a in zip(groups.names, before, after, strict=True)
        if a != b
    ]
    shown = changed[:12] + ([f"and {len(changed) - 12} more"] if len(changed) > 12 else [])
    return f"Quotas moved rows from where the method took them: {', '.join(shown)}."
