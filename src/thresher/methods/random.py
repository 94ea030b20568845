"""A random sample: what every other method has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thresher.console.formatting import pluralize
from thresher.methods.explanation import Evidence, Explanation, Why
from thresher.samplers.ordering import stable_order
from thresher.types import Columns, MethodContext, Selection, Signal


@dataclass(frozen=True)
class Random:
    """Takes the first rows in the order of a seeded hash of the row.

    Unlike with a random generator, a larger budget contains a smaller one, and a row added to the
    pool displaces at most one. Best first: all rows are equally good; the order is that of the
    hash, so any beginning of the list is itself a random sample.
    """

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = "A random sample."

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        return Selection(stable_order(columns.ties)[:budget], {})

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        kept, n = int(evidence.kept.sum()), len(evidence.kept)
        drawn = Why(
            "random sample",
            f"random sample: {kept:,} of {pluralize(n)} {'was' if kept == 1 else 'were'} drawn",
        )
        not_drawn = Why("not drawn", "not drawn; every row had the same chance")
        return Explanation(
            why=lambda i: drawn if evidence.kept[i] else not_drawn,
            lead="A random sample: every row had the same chance; no score was computed.",
        )
