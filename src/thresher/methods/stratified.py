"""A random sample of every source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.methods.explanation import Evidence, Explanation, Why
from thresher.methods.settings import setting
from thresher.samplers import stratified
from thresher.types import Columns, MethodContext, Selection, Signal


@dataclass(frozen=True)
class Stratified:
    """Each source keeps its share, or all sources give the same number of rows; within a source, a
    random sample.

    Best first: all rows of a source are equally good; the order is that of a seeded hash.
    """

    by: Literal["proportional", "equal"] = setting(
        "proportional",
        "proportional: each source keeps its share of the pool; equal: the same number of rows "
        "from each",
    )

    name: ClassVar[str] = "stratified"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = "A random sample of every source, in proportion or in equal parts."

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        rows = stratified(columns.source, budget, columns.ties, self.by)
        notes: list[str] = []
        size = np.bincount(columns.source)
        if np.count_nonzero(size) < 2:
            notes.append("All rows are of one source, so this is the same as --method random.")
        elif self.by == "equal":
            taken = np.bincount(columns.source[rows], minlength=len(size))
            short = [
                columns.source_names[s]
                for s in np.flatnonzero((taken == size) & (size > 0) & (size < taken.max()))
            ]
            if short:
                shown = ", ".join(short[:5]) + (
                    f" and {len(short) - 5} more" if len(short) > 5 else ""
                )
                notes.append(
                    f"Taken completely, because they have fewer rows than an equal part: {shown}."
                )
        names = np.array(columns.source_names) if columns.source_names else np.array([""])
        return Selection(rows, {"source": names[columns.source]}, tuple(notes))

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        lead = "A random sample of each source; no score was computed."
        if not evidence.has("source"):
            return Explanation(lead=lead)
        equal = evidence.settings.get("by") == "equal"
        part = (
            "which gives as many rows as every other source"
            if equal
            else ("which gives its share of the pool")
        )
        source = evidence.reasons["source"]

        def why(i: int) -> Why:
            name = f"source {source[i]}" if source[i] else "the rows without a source"
            if evidence.kept[i]:
                return Why("random sample of its source", f"random sample of {name}, {part}")
            return Why("not drawn", f"not drawn from {name}, {part}")

        return Explanation(why, lead, hidden=frozenset({"source"}))
