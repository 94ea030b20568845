"""A random sample of every source, or of every skill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.errors import opt
from thresher.methods.explanation import Evidence, Explanation, Why
from thresher.methods.needs import require_embedder
from thresher.methods.settings import setting
from thresher.samplers import stratified
from thresher.signals.skill_labels import skill_columns, skill_reasons
from thresher.signals.skills import balanced_groups
from thresher.types import Columns, MethodContext, Selection, Signal


@dataclass(frozen=True)
class Stratified:
    """Each source or skill keeps its share, or all give the same number of rows; within one, a
    random sample.

    Best first: all rows of a group are equally good; the order is that of a seeded hash.
    """

    by: Literal["proportional", "equal", "skill", "skill_proportional"] = setting(
        "proportional",
        "proportional: each source keeps its share of the pool; equal: the same number of rows "
        "from each; skill: the same number from each skill, found by the model; "
        "skill_proportional: each skill keeps its share",
    )

    name: ClassVar[str] = "stratified"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = (
        "A random sample of every source or skill, in proportion or in equal parts."
    )

    @property
    def _skills(self) -> bool:
        return self.by.startswith("skill")

    @property
    def _equal(self) -> bool:
        return self.by in ("equal", "skill")

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return skill_columns(require_embedder(context, self.name)) if self._skills else {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        group, reason, notes = columns.source, self._reason(columns), list[str]()
        if self._skills:
            skills = balanced_groups(columns, "skill", np.arange(len(columns)))
            assert skills is not None
            group = skills
        rows = stratified(group, budget, columns.ties, "equal" if self._equal else "proportional")
        size = np.bincount(group)
        what = "skill" if self._skills else "source"
        if np.count_nonzero(size) < 2:
            notes.append(
                f"All rows are of one {what}, so this is the same as {opt('method', 'random')}."
            )
        elif self._equal:
            taken = np.bincount(group[rows], minlength=len(size))
            short = np.flatnonzero((taken == size) & (size > 0) & (size < taken.max()))
            if len(short):
                first = np.unique(group, return_index=True)
                row_of = dict(zip(first[0].tolist(), first[1].tolist(), strict=True))
                names = [str(reason[what][row_of[g]]) for g in short.tolist()]
                shown = ", ".join(names[:5])
                shown += f" and {len(names) - 5} more" if len(names) > 5 else ""
                notes.append(
                    f"Taken completely, because they have fewer rows than an equal part: {shown}."
                )
        return Selection(rows, reason, tuple(notes))

    def _reason(self, columns: Columns) -> dict[str, np.ndarray]:
        if self._skills:
            return skill_reasons(columns)
        names = np.array(columns.source_names) if columns.source_names else np.array([""])
        return {"source": names[columns.source]}

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        by = str(evidence.settings.get("by"))
        what = "skill" if by.startswith("skill") else "source"
        lead = f"A random sample of each {what}; no score was computed."
        if what == "skill":
            lead = "A random sample of each skill; skills are clusters of embeddings."
        if not evidence.has(what):
            return Explanation(lead=lead)
        part = (
            f"which gives as many rows as every other {what}"
            if by in ("equal", "skill")
            else "which gives its share of the pool"
        )
        group = evidence.reasons[what]

        def why(i: int) -> Why:
            name = f"{what} {group[i]}" if group[i] else f"the rows without a {what}"
            if evidence.kept[i]:
                return Why(f"random sample of its {what}", f"random sample of {name}, {part}")
            return Why("not drawn", f"not drawn from {name}, {part}")

        return Explanation(why, lead, hidden=frozenset({what}))
