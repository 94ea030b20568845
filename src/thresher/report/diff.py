"""Compares two selections: rows in both, rows in only one, by source and by score.

Rows of the same pool are matched by number, rows of different pools by digest (duplicates one to
one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from thresher.console.formatting import format_percent, truncate
from thresher.html import NotebookView, render_notebook_view
from thresher.pools.notebook import SOURCES
from thresher.report.chart import finite
from thresher.report.columns import constant, is_number, meaning
from thresher.report.folder import LoadedSelection
from thresher.types import digests_to_bytes


@dataclass(frozen=True)
class Counts:
    """Numbers of rows of one source, or of all."""

    name: str
    only_a: int
    both: int
    only_b: int

    @property
    def a(self) -> int:
        return self.only_a + self.both

    @property
    def b(self) -> int:
        return self.only_b + self.both


@dataclass(frozen=True)
class Score:
    """Medians of a numeric reason over the parts; None if it is unknown for a part."""

    of: str  # "A" or "B": whose reason it is
    name: str
    title: str
    brief: str
    unit: str
    only_a: float | None
    both: float | None
    only_b: float | None


@dataclass(frozen=True)
class Difference:
    """The result of `difference`.

    only_a, both: int64, rows of A's pool, best rank first.
    only_b: int64, rows of B's pool, best rank first.
    """

    a: LoadedSelection
    b: LoadedSelection
    same_pool: bool
    only_a: np.ndarray
    both: np.ndarray
    only_b: np.ndarray
    # expected overlap of two random samples of these sizes; None for two pools
    by_chance: float | None
    sources: tuple[Counts, ...]
    scores: tuple[Score, ...]

    @property
    def jaccard(self) -> float:
        """Jaccard index: rows in both over rows in either, 0 to 1."""
        every = len(self.only_a) + len(self.both) + len(self.only_b)
        return len(self.both) / every if every else 1.0

    def __repr__(self) -> str:
        chance = (
            ""
            if self.by_chance is None
            else (f"; two random samples would share about {self.by_chance:,.0f}")
        )
        only = f"{len(self.only_a):,} only in A, {len(self.only_b):,} only in B"
        return f"<Difference: {len(self.both):,} rows in both, {only}{chance}>"

    def _repr_html_(self) -> str:
        return render_notebook_view(lambda: _notebook_view(self), self)

    def to_json(self, examples: int = 10) -> dict[str, Any]:
        """Counts, scores and example rows as plain values.

        Arguments:
            examples: number of rows of each part, best rank first.
        """
        parts = {
            "only_a": (self.a, self.only_a),
            "both": (self.a, self.both),
            "only_b": (self.b, self.only_b),
        }
        return {
            "a": _about(self.a),
            "b": _about(self.b),
            "same_pool": self.same_pool,
            **{name: len(rows) for name, (_, rows) in parts.items()},
            "jaccard": self.jaccard,
            "both_by_chance": self.by_chance,
            "by_source": [asdict(c) for c in self.sources],
            "scores": [asdict(s) for s in self.scores],
            "examples": {
                name: [
                    {"row": r, "id": i}
                    for r, i in zip(
                        rows[:examples].tolist(), m.pool.ids(rows[:examples]), strict=True
                    )
                ]
                for name, (m, rows) in parts.items()
            },
        }


def difference(a: LoadedSelection, b: LoadedSelection) -> Difference:
    """Compare two selections.

    Arguments:
        a, b: the selections, of the same pool or of two pools.
    """
    rows_a, rows_b = a.kept_rows, b.kept_rows
    same = _same_pool(a, b)
    if same:
        keys_a, keys_b = rows_a.tolist(), rows_b.tolist()
    else:
        keys_a, keys_b = _keys(a, rows_a), _keys(b, rows_b)
    there_a, there_b = dict.fromkeys(keys_a), dict.fromkeys(keys_b)
    in_b = np.array([key in there_b for key in keys_a], bool)
    in_a = np.array([key in there_a for key in keys_b], bool)
    only_a, both, only_b = rows_a[~in_b], rows_a[in_b], rows_b[~in_a]
    by_chance = len(rows_a) * len(rows_b) / len(a.pool) if same and len(a.pool) else None
    return Difference(
        a,
        b,
        same,
        only_a,
        both,
        only_b,
        by_chance,
        _sources(a, b, only_a, both, only_b),
        _scores(a, b, only_a, both, only_b, same),
    )


def label(selection: LoadedSelection, other: LoadedSelection) -> str:
    """Label of a selection: method, budget and seed, or the folder if these are equal in both.

    Arguments:
        selection: to label.
        other: that it is compared with.
    """

    def name(m: LoadedSelection) -> str:
        return f"{m.method} {m.run['config'].get('budget', '')}, seed {m.seed}"

    return name(selection) if name(selection) != name(other) else str(selection.folder)


def values_of(selection: LoadedSelection, name: str, rows: np.ndarray) -> np.ndarray:
    """Finite values of a reason, float64, at most one per given row.

    Arguments:
        selection: with the reasons.
        name: of a numeric reason.
        rows: int64 [m], pool rows; those that the method did not see are skipped.
    """
    at = np.searchsorted(selection.rows, rows)
    at = at[
        (at < len(selection.rows))
        & (selection.rows[np.minimum(at, len(selection.rows) - 1)] == rows)
    ]
    return finite(selection.reasons[name][at])


def numbers(selection: LoadedSelection) -> list[str]:
    """Names of the numeric reasons that are not constant."""
    return [
        name
        for name, values in selection.reasons.items()
        if is_number(values) and not constant(values)
    ]


def _same_pool(a: LoadedSelection, b: LoadedSelection) -> bool:
    if a.pool is b.pool:
        return True
    return len(a.pool) == len(b.pool) and bool(np.array_equal(a.pool.digest, b.pool.digest))


def _keys(selection: LoadedSelection, rows: np.ndarray) -> list[tuple[bytes, int]]:
    """(digest, occurrence number of this digest among the rows, from 0) of each row."""
    seen: dict[bytes, int] = {}
    out = []
    for digest in digests_to_bytes(selection.pool.digest[rows]):
        seen[digest] = seen.get(digest, -1) + 1
        out.append((digest, seen[digest]))
    return out


def _sources(
    a: LoadedSelection, b: LoadedSelection, only_a: np.ndarray, both: np.ndarray, only_b: np.ndarray
) -> tuple[Counts, ...]:
    counts: dict[str, list[int]] = {}
    for i, (selection, rows) in enumerate(((a, only_a), (a, both), (b, only_b))):
        number = np.bincount(
            selection.pool.source[rows], minlength=len(selection.pool.source_names)
        )
        for name, n in zip(selection.pool.source_names, number.tolist(), strict=True):
            counts.setdefault(name or "(none)", [0, 0, 0])[i] += n
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return tuple(Counts(name, *n) for name, n in ordered if sum(n))


def _scores(
    a: LoadedSelection,
    b: LoadedSelection,
    only_a: np.ndarray,
    both: np.ndarray,
    only_b: np.ndarray,
    same: bool,
) -> tuple[Score, ...]:
    out = []
    for of, selection in (("A", a), ("B", b)):
        for name in numbers(selection):
            if of == "B" and name in a.reasons and same and _equal(a, b, name):
                continue  # the same column twice
            parts: Mapping[str, np.ndarray | None] = {
                "only_a": only_a if same or of == "A" else None,
                "both": both if same or of == "A" else None,
                "only_b": only_b if same or of == "B" else None,
            }
            medians = [
                None if rows is None else _median(values_of(selection, name, rows))
                for rows in parts.values()
            ]
            what = meaning(name, selection.settings)
            out.append(Score(of, name, what.title, what.brief, what.unit, *medians))
    return tuple(out)


def _equal(a: LoadedSelection, b: LoadedSelection, name: str) -> bool:
    return np.array_equal(a.rows, b.rows) and np.array_equal(
        np.asarray(a.reasons[name], np.float64),
        np.asarray(b.reasons[name], np.float64),
        equal_nan=True,
    )


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _about(selection: LoadedSelection) -> dict[str, Any]:
    return {
        "folder": str(selection.folder),
        "method": selection.method,
        "settings": selection.settings,
        "seed": selection.seed,
        "pool": str(selection.pool.path),
        "rows": len(selection.kept_rows),
    }


def _notebook_view(d: Difference) -> NotebookView:
    """The notebook view: overlap, by source and by score."""
    n_a, n_b, both = len(d.only_a) + len(d.both), len(d.only_b) + len(d.both), len(d.both)
    chance = (
        "" if d.by_chance is None else (f"two random samples would share about {d.by_chance:,.0f}")
    )
    counts = (
        (
            "In both",
            f"{both:,}",
            (f"{format_percent(both, n_a)} of A, {format_percent(both, n_b)} of B"),
        ),
        ("Only A", f"{len(d.only_a):,}", f"of {n_a:,}"),
        ("Only B", f"{len(d.only_b):,}", f"of {n_b:,}"),
    )
    table: list[tuple[str, ...]] = [("Rows by source", "only A", "both", "only B")]
    table += [
        (truncate(c.name), f"{c.only_a:,}", f"{c.both:,}", f"{c.only_b:,}")
        for c in d.sources[:SOURCES]
    ]
    if len(d.sources) > SOURCES:
        rest = d.sources[SOURCES:]
        sums = [
            sum(numbers)
            for numbers in zip(*((c.only_a, c.both, c.only_b) for c in rest), strict=True)
        ]
        table.append((f"{len(rest)} smaller sources", *(f"{number:,}" for number in sums)))
    for s in d.scores:
        medians = ("none" if v is None else f"{v:.3g}" for v in (s.only_a, s.both, s.only_b))
        table.append((f"median of {s.brief} ({s.of})", *medians))
    title = f"A: {label(d.a, d.b)}. B: {label(d.b, d.a)}"
    return NotebookView(title, chance.capitalize(), counts, table=tuple(table))
