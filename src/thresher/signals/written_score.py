"""How much a row helps to train one capability, as a model writes it: for servers that give no log-probabilities.

The same question as `Judge`, answered by a short greedy generation, as the official mmSSR program asks it. Whole numbers
only, so ties are massive; one generation a capability and row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.signals.answer import GenerateBackend
from thresher.signals.capabilities import Capability
from thresher.signals.judge import QUERY, SYSTEM
from thresher.signals.query import written
from thresher.types import AnyModel, Columns, Field, Sample, SampleSource, Scored, Signal, model_inputs
from thresher.types import Capability as Need

_SCORE = re.compile(r"(?<![\d.\-])[0-5](?:\.0*)?(?![\d]|\.\d)")


@dataclass(frozen=True)
class WrittenScore:
    """One generation a row. Higher `score`: the row helps more."""

    model: AnyModel
    capability: Capability
    prompt: str = QUERY
    system: str = SYSTEM
    max_new_tokens: int = 8

    kind: ClassVar[str] = "written_score"
    version: ClassVar[int] = 1
    needs: ClassVar[Need] = Need.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "what the judge wrote"),
        Field("score", "float32", "the number 0 … 5 in it; NaN: none was found; higher = helps more"),
        Field("parsed", "bool", "a number 0 … 5 was found"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return model_inputs(self.model)

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: GenerateBackend, pool: SampleSource
    ) -> Iterator[Scored]:
        query = self.prompt.replace("{capability}", self.capability.wording)
        asked = [written(sample, self.system, query) for sample in samples]
        for piece in backend.generate(asked, pool, self.max_new_tokens):
            score = np.array([score_of(str(text)) for text in piece.values["text"]], np.float32)
            values = {"text": piece.values["text"], "score": score, "parsed": ~np.isnan(score)}
            yield Scored(piece.index, values, list(piece.errors))


def score_of(text: str) -> float:
    """The first whole number 0 … 5 that stands alone; NaN when there is none.

    >>> score_of("4"), score_of("I rate it 3/5."), score_of("10")
    (4.0, 3.0, nan)
    """
    found = _SCORE.search(text)
    return float(found[0]) if found else float("nan")
