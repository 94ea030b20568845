"""Constrain a method's selection to quotas and forced rows. Pure.

The method runs once. Where a group must give more or fewer rows than were selected, it runs again
on that group's rows only; groups whose count fits keep their rows of the first run. Order: forced
rows, then the selected ones; if a group ran again, groups are interleaved so that every prefix has
the mixture of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thresher.mixture.quotas import Bounds, Groups, bounds, group_targets
from thresher.types import Columns, Note, Selection

SelectFn = Callable[[Columns, int], Selection]
"""The method: (columns, maximum number of rows) -> selection, best first."""

METHOD, KEEP, QUOTA, UNSCORABLE = "method", "keep", "quota", "unscorable"


@dataclass(frozen=True)
class ForcedRows:
    """Rows that are selected in addition to the method's.

    `keep`: bool [n] over the rows of the columns. `outside`: int64 [e], the group of each forced
    row that is not among them.
    """

    keep: np.ndarray
    outside: np.ndarray


def constrained_selection(
    method: SelectFn,
    columns: Columns,
    k: int,
    forced: ForcedRows,
    groups: Groups | None,
    group: np.ndarray,
) -> Selection:
    """Select `k` rows in total, including forced ones; returns those among `columns`.

    The reason `taken_by` states why each row was taken: method, quota (its group ran again), keep,
    or "" (not taken).

    Arguments:
        method: the method.
        columns: n rows.
        k: number of rows, including those of `forced.outside`.
        forced: rows that are selected in any case.
        groups: the quotas; None for none.
        group: int [n], the rows' groups; ignored without `groups`.

    Raises ConfigError for quotas that cannot be met.
    """
    n = len(columns)
    free = np.flatnonzero(~forced.keep)
    forced_rows = np.flatnonzero(forced.keep)
    forced_rows = forced_rows[np.argsort(columns.ties[forced_rows], kind="stable")]
    remaining = k - len(forced_rows) - len(forced.outside)
    assert remaining >= 0, "more forced rows than the budget: must be rejected before"
    unconstrained = method(columns, min(k, n))
    constrained = (
        unconstrained
        if len(free) == n and remaining == min(k, n)
        else _merge(unconstrained, method(columns.take(free), min(remaining, len(free))), free)
    )
    rows, reason, notes = constrained.rows, dict(constrained.reason), list(constrained.notes)
    taken_by = np.full(n, "", "U10")
    taken_by[rows] = METHOD
    if groups is not None:
        limits = _limits(groups, group, forced, k)
        chosen = np.bincount(group[rows], minlength=len(groups))
        target = group_targets(limits, chosen, min(remaining, len(free)))
        if not np.array_equal(target, chosen):
            rows = _reselect(
                method, columns, free, group, constrained, target, limits, reason, notes, taken_by
            )
            scope = " The following notes are about its selection before that." if notes else ""
            notes.insert(0, _moved_note(groups, chosen, target) + scope)
    taken_by[forced_rows] = KEEP
    reason["taken_by"] = taken_by
    rows = np.concatenate([forced_rows, rows]).astype(np.int64)
    return Selection(rows, reason, tuple(dict.fromkeys(notes)), unconstrained.findings)


def _limits(groups: Groups, group: np.ndarray, forced: ForcedRows, k: int) -> Bounds:
    g = len(groups)
    outside = np.bincount(forced.outside, minlength=g)
    taken = np.bincount(group[forced.keep], minlength=g) + outside
    available = np.bincount(group, minlength=g) + outside
    return bounds(groups, available, taken, k)


def _reselect(
    method: SelectFn,
    columns: Columns,
    free: np.ndarray,
    group: np.ndarray,
    selection: Selection,
    target: np.ndarray,
    limits: Bounds,
    reason: dict[str, np.ndarray],
    notes: list[str | Note],
    taken_by: np.ndarray,
) -> np.ndarray:
    """Each group's rows, best first, reselected where the count differs. Fills `reason`."""
    pieces = []
    for g in range(len(target)):
        selected = selection.rows[group[selection.rows] == g]
        if len(selected) != target[g]:
            members = free[group[free] == g]
            taken_by[selected] = ""
            reselected = method(columns.take(members), int(target[g])) if target[g] else None
            selected = members[:0] if reselected is None else members[reselected.rows]
            if reselected is not None:
                _overwrite(reason, reselected, members)
                minimum = int(limits.low[g] - limits.given[g])
                if len(selected) < minimum:  # the method found too few for the quota
                    others = np.setdiff1d(members, selected)
                    others = others[np.argsort(columns.ties[others], kind="stable")][
                        : minimum - len(selected)
                    ]
                    notes.append(
                        f"{len(others):,} rows were sampled at random for a quota: the method "
                        f"found "
                        "no more."
                    )
                    selected = np.concatenate([selected, others])
            taken_by[selected] = QUOTA
        pieces.append(selected)
    order = interleave([len(p) for p in pieces])
    ordered: np.ndarray = np.concatenate(pieces)[order]
    return ordered


def interleave(sizes: list[int]) -> np.ndarray:
    """Indices of concatenated lists, int64 [sum], so that every prefix is proportional to their
    sizes.

    >>> interleave([2, 4]).tolist()
    [2, 0, 3, 4, 1, 5]
    """
    relative_position = np.concatenate(
        [(np.arange(s) + 0.5) / s for s in sizes if s] or [np.zeros(0)]
    )
    return np.argsort(np.round(relative_position, 12), kind="stable")


def _merge(unconstrained: Selection, selection: Selection, index: np.ndarray) -> Selection:
    """`selection`, a selection from the rows `index`, with the reasons of `unconstrained` for all
    others."""
    reason = {name: np.array(a) for name, a in unconstrained.reason.items()}
    _overwrite(reason, selection, index)
    return Selection(index[selection.rows], reason, selection.notes, unconstrained.findings)


def _overwrite(reason: dict[str, np.ndarray], selection: Selection, index: np.ndarray) -> None:
    """Replace the reasons of the rows `index` by those of a later answer."""
    for name, values in selection.reason.items():
        new_values = np.asarray(values)
        if name in reason:
            kind = np.promote_types(reason[name].dtype, new_values.dtype)
            reason[name] = reason[name].astype(kind)  # a copy: the method's own array stays
            reason[name][index] = new_values


def _moved_note(groups: Groups, before: np.ndarray, after: np.ndarray) -> str:
    """A note: "Quotas moved rows …: ocr_vqa 120 -> 200, all other rows 880 -> 800"."""
    changed = [
        f"{name} {int(b):,} -> {int(a):,}"
        for name, b, a in zip(groups.names, before, after, strict=True)
        if a != b
    ]
    displayed = changed[:12] + ([f"and {len(changed) - 12} more"] if len(changed) > 12 else [])
    return f"Quotas changed the numbers of rows that the method selected: {', '.join(displayed)}."
