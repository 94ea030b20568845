"""The rows with the longest answers: a strong baseline where the evaluation rewards long
answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.methods.explanation import Evidence, Explanation, by_one_number
from thresher.methods.settings import setting
from thresher.samplers import top_k
from thresher.signals.length import Length
from thresher.types import Columns, MethodContext, Selection, Signal


@dataclass(frozen=True)
class LongestAnswers:
    """Takes the rows with the longest answers; ties in the order of a seeded hash.

    Best first: longest first.
    """

    unit: Literal["words", "chars"] = setting(
        "words", "words: separated by whitespace; chars: characters"
    )

    name: ClassVar[str] = "length"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = "The longest answers first."

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {"length": Length(self.unit)}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        length = columns["length"]["length"]
        return Selection(
            top_k(length, budget, columns.ties), {"length": np.asarray(length, np.int32)}
        )

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        unit = "characters" if evidence.settings.get("unit") == "chars" else "words"
        return Explanation(
            by_one_number(evidence, "length", "answer length", unit, "the longest answers are kept")
        )
