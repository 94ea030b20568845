"""How much a row helps to train one capability, as a generated number: for servers without
log-probabilities.

The same question as `Judge`, answered by a short greedy generation, as in the official mmSSR code.
Integers only, so there are many ties; one generation per capability and row. A text without a clear
rating has no score; it is counted and reported, and never a 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.answers.parsing import parse_rating
from thresher.signals.answer import GenerateBackend
from thresher.signals.capabilities import Capability
from thresher.signals.judge import QUERY, SYSTEM
from thresher.signals.query import generation_prompt
from thresher.types import (
    AnyModel,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Signal,
    model_inputs,
)
from thresher.types import Capability as Need


@dataclass(frozen=True)
class WrittenScore:
    """One generation per row. Higher `score`: the row helps more."""

    model: AnyModel
    capability: Capability
    prompt: str = QUERY
    system: str = SYSTEM
    max_new_tokens: int = 48
    """Enough for a judge that repeats the question before the number."""

    kind: ClassVar[str] = "written_score"
    version: ClassVar[int] = 3  # 3: images stay where the row has them
    needs: ClassVar[Need] = Need.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the generated text"),
        Field("score", "float32", "the rating 0 … 5 in it; NaN: unclear; higher = helps more"),
        Field("parsed", "bool", "a rating 0 … 5 is clear"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return model_inputs(self.model)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GenerateBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        query = self.prompt.replace("{capability}", self.capability.wording)
        prompts = [generation_prompt(sample, self.system, query) for sample in samples]
        for piece in backend.generate(prompts, pool, self.max_new_tokens):
            results = zip(piece.values["text"], piece.values["finished"], strict=True)
            score = np.array(
                [score_of(str(text), bool(finished)) for text, finished in results], np.float32
            )
            values = {"text": piece.values["text"], "score": score, "parsed": ~np.isnan(score)}
            yield Scored(piece.index, values, list(piece.errors))


def score_of(text: str, finished: bool = True) -> float:
    """The rating in a judge's text, 0 … 5; NaN if it is unclear (`answers.parsing.parse_rating`).

    Arguments:
        text: as generated.
        finished: whether the judge stopped by itself.

    >>> score_of("4"), score_of("I rate it 3/5.")
    (4.0, 3.0)
    >>> score_of("On a scale of 0 to 5, I", finished=False)
    nan
    """
    found = parse_rating(text, finished)
    return float("nan") if found is None else float(found)
