"""Warnings and notes about a selection: failures, constant columns, duplicates, sources without a
kept row.

Uses the selection and the index of the pool; opens no image and no model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from thresher.console.formatting import pluralize, truncate
from thresher.report.columns import constant, meaning
from thresher.report.folder import LoadedSelection
from thresher.selection.groups import failure_kinds
from thresher.selection.result import LEFT_OUT
from thresher.types import RowError

MOST_NAMES = 6


@dataclass(frozen=True)
class Remark:
    """A warning or note. `level`: "warning" or "note". `detail`: lines below the text."""

    level: str
    text: str
    detail: tuple[str, ...] = ()


def remarks(selection: LoadedSelection) -> list[Remark]:
    """All remarks on a selection, warnings first."""
    found = [
        *_failures(selection),
        *_unusable(selection),
        *_constant(selection),
        *_duplicates(selection),
        *_sources_without_rows(selection),
        *_notes(selection),
    ]
    return [r for r in found if r.level == "warning"] + [r for r in found if r.level != "warning"]


def _failures(selection: LoadedSelection) -> list[Remark]:
    if not selection.failures:
        return []
    n = len(selection.pool)
    lines = []
    for kind in failure_kinds(selection.failures)[:MOST_NAMES]:
        rows = ", ".join(str(f.row) for f in kind[:3]) + (", …" if len(kind) > 3 else "")
        lines.append(f"{len(kind):,} × {kind[0].error[:300]} (row {rows})")
    m = len(selection.failures)
    left_out = (
        "was left out; failures.jsonl names it"
        if m == 1
        else ("were left out; failures.jsonl lists them")
    )
    text = f"{m:,} of {pluralize(n)} could not be used and {left_out}."
    return [Remark("warning", text, tuple(lines))]


def _unusable(selection: LoadedSelection) -> list[Remark]:
    """Kept rows that no trainer can use; only methods without a model keep such rows."""
    kept = set(selection.kept_rows.tolist())
    problems = [text for row, text in selection.pool.problems.items() if row in kept]
    missing = int(selection.pool.facts["missing_images"][selection.kept_rows].sum())
    out = []
    if problems:
        kinds = Counter(RowError.parse(text).kind for text in problems)
        lines = tuple(
            f"{n:,} × {kind}"
            for kind, n in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        )
        they = "it is" if len(problems) == 1 else "they are"
        text = (
            f"{pluralize(len(problems), 'kept row')} cannot be trained on as {they}; `thresher "
            "doctor` explains."
        )
        out.append(Remark("warning", text, lines))
    if missing:
        text = (
            f"{pluralize(missing, 'kept row')} {'points' if missing == 1 else 'point'} at an "
            "image that does not exist."
        )
        out.append(Remark("warning", text))
    return out


def _constant(selection: LoadedSelection) -> list[Remark]:
    names = [
        meaning(n, selection.settings).title
        for n, v in selection.reasons.items()
        if constant(v) and n != "source"
    ]
    # these flags are often the same for all rows
    flags = {"Held back as suspected noise", "Taken by preference", "Seed row", "Guard passed"}
    names = [name for name in names if name not in flags]
    if not names:
        return []
    have = "has" if len(names) == 1 else "have"
    it = "it" if len(names) == 1 else "they"
    text = f"{', '.join(names)} {have} the same value in every row, so {it} had no effect."
    return [Remark("warning", text)]


def _duplicates(selection: LoadedSelection) -> list[Remark]:
    out = []
    order, kept = selection.pool.order, selection.in_pool
    in_pool, in_kept = (
        _copies(selection.pool.digest[order]),
        _copies(selection.pool.digest[order[kept[order]]]),
    )
    if in_pool:
        is_ = "is an exact copy" if in_pool == 1 else "are exact copies"
        among = "none of these copies was kept"
        if in_kept:
            among = (
                f"{in_kept:,} of these copies {'was' if in_kept == 1 else 'were'} kept beside "
                "their original"
            )
        text = f"{pluralize(in_pool)} of the pool {is_} of another row; {among}."
        out.append(Remark("note", text))
    return out


def _copies(digest: np.ndarray) -> int:
    """Number of rows with the same digest as the row before them; `digest` must be sorted."""
    return int((digest[1:] == digest[:-1]).sum())


def _sources_without_rows(selection: LoadedSelection) -> list[Remark]:
    names = selection.pool.source_names
    before = np.bincount(selection.pool.source, minlength=len(names))
    after = np.bincount(selection.pool.source[selection.kept_rows], minlength=len(names))
    without_rows = [
        i for i in np.argsort(-before, kind="stable").tolist() if before[i] and not after[i]
    ]
    if not without_rows:
        return []
    listed = ", ".join(
        f"{truncate(names[i]) or '(none)'} ({pluralize(int(before[i]))})"
        for i in without_rows[:MOST_NAMES]
    )
    more = f" and {len(without_rows) - MOST_NAMES} more" if len(without_rows) > MOST_NAMES else ""
    what = "One source" if len(without_rows) == 1 else f"{len(without_rows):,} sources"
    return [Remark("warning", f"No row was kept of {what.lower()}: {listed}{more}.")]


def _notes(selection: LoadedSelection) -> list[Remark]:
    """Without the one on rows that were left out: `_failures` says more."""
    return [Remark("note", note.text) for note in selection.notes if note.kind != LEFT_OUT]
