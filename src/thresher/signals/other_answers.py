"""The most common answers of each source, as further candidates for questions without candidates of
their own.

Arithmetic on the expected answers of a set of rows, independent of the model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.answers.normalise import normalise
from thresher.types import Columns, Field, Signal

MAX_CHARACTERS = 80  # characters of an answer that can be an option


@dataclass(frozen=True)
class OtherAnswers:
    rationale: Signal
    """Field `expected`."""
    most: int = 4

    kind: ClassVar[str] = "other_answers"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "answers",
            "str",
            "JSON list of the source's most common short answers, most common first, without "
            "repetition",
        ),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        counts: dict[int, Counter[str]] = {}
        shown: dict[tuple[int, str], str] = {}
        for source, answer in zip(
            inputs.source.tolist(), inputs["rationale"]["expected"].tolist(), strict=True
        ):
            if len(answer) <= MAX_CHARACTERS and (plain := normalise(answer)):
                counts.setdefault(source, Counter())[plain] += 1
                shown[source, plain] = min(answer, shown.get((source, plain), answer))
        commonest: dict[int, str] = {}
        for source, found in counts.items():
            ranked = sorted(found, key=lambda a: (-found[a], a))[: self.most]
            commonest[source] = json.dumps([shown[source, a] for a in ranked], ensure_ascii=False)
        return {
            "answers": np.array([commonest.get(s, "[]") for s in inputs.source.tolist()], object)
        }
