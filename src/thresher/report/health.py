"""What a user should know before training on a selection: failures, constant columns, duplicates,
lost sources, notes.

Reads the selection and what the pool knows from reading; opens no image and no model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from thresher.console.formatting import pluralize, truncate
from thresher.report.columns import constant, meaning
from thresher.report.folder import LoadedSelection
from thresher.selection.summary import failure_kinds
from thresher.types import RowError

MOST_NAMES = 6


@dataclass(frozen=True)
class Remark:
    """`level`: "warning" (look at it) or "note" (good to know). `detail`: lines below it."""

    level: str
    text: str
    detail: tuple[str, ...] = ()


def remarks(made: LoadedSelection) -> list[Remark]:
    """Warnings first."""
    found = [
        *_failures(made),
        *_unusable(made),
        *_constant(made),
        *_duplicates(made),
        *_lost(made),
        *_notes(made),
    ]
    return [r for r in found if r.level == "warning"] + [r for r in found if r.level != "warning"]


def _failures(made: LoadedSelection) -> list[Remark]:
    if not made.failures:
        return []
    n = len(made.pool)
    lines = []
    for kind in failure_kinds(made.failures)[:MOST_NAMES]:
        rows = ", ".join(str(f.row) for f in kind[:3]) + (", …" if len(kind) > 3 else "")
        lines.append(f"{len(kind):,} × {kind[0].error[:300]} (row {rows})")
    m = len(made.failures)
    left_out = (
        "was left out; failures.jsonl names it"
        if m == 1
        else ("were left out; failures.jsonl lists them")
    )
    text = f"{m:,} of {pluralize(n)} could not be used and {left_out}."
    return [Remark("warning", text, tuple(lines))]


def _unusable(made: LoadedSelection) -> list[Remark]:
    """Kept rows that no trainer can take: only methods that ask no model keep such rows."""
    kept = set(made.kept_rows.tolist())
    problems = [text for row, text in made.pool.problems.items() if row in kept]
    missing = int(made.pool.facts["missing_images"][made.kept_rows].sum())
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


def _constant(made: LoadedSelection) -> list[Remark]:
    names = [
        meaning(n, made.settings).title
        for n, v in made.reasons.items()
        if constant(v) and n != "source"
    ]
    # all the same is ordinary for these
    flags = {"Held back as suspected noise", "Taken by preference", "Seed row", "Guard passed"}
    names = [name for name in names if name not in flags]
    if not names:
        return []
    have = "has" if len(names) == 1 else "have"
    it = "it" if len(names) == 1 else "they"
    text = f"{', '.join(names)} {have} the same value in every row, so {it} decided nothing."
    return [Remark("warning", text)]


def _duplicates(made: LoadedSelection) -> list[Remark]:
    out = []
    order, kept = made.pool.order, made.in_pool
    in_pool, in_kept = (
        _copies(made.pool.digest[order]),
        _copies(made.pool.digest[order[kept[order]]]),
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
    """Rows that have the digest of the row before them. `digest` is sorted."""
    return int((digest[1:] == digest[:-1]).sum())


def _lost(made: LoadedSelection) -> list[Remark]:
    names = made.pool.source_names
    before = np.bincount(made.pool.source, minlength=len(names))
    after = np.bincount(made.pool.source[made.kept_rows], minlength=len(names))
    lost = [i for i in np.argsort(-before, kind="stable").tolist() if before[i] and not after[i]]
    if not lost:
        return []
    said = ", ".join(
        f"{truncate(names[i]) or '(none)'} ({pluralize(int(before[i]))})" for i in lost[:MOST_NAMES]
    )
    more = f" and {len(lost) - MOST_NAMES} more" if len(lost) > MOST_NAMES else ""
    what = "One source" if len(lost) == 1 else f"{len(lost):,} sources"
    return [Remark("warning", f"No row was kept of {what.lower()}: {said}{more}.")]


def _notes(made: LoadedSelection) -> list[Remark]:
    said_above = f"{len(made.failures):,} of {pluralize(len(made.pool))} could not be used"
    return [Remark("note", text) for text in made.notes if not text.startswith(said_above)]
