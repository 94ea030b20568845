"""Which of a row's candidate answers a model finds likeliest: multiple choice and yes/no without
any generated text.

The candidates come from the row itself (`candidates.py`) or, where it offers none, from
`otherwise`. The candidate with the largest summed log-probability is picked, the first among
equals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.answers.candidates import candidates
from thresher.types import (
    Capability,
    Columns,
    Field,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
)


class ChoiceBackend(Protocol):
    """The part of a backend that this signal uses."""

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        """Fields: picked int32 (position in the row's candidates), margin float32. Every row has a
        candidate."""


@dataclass(frozen=True)
class Choice:
    """One prompt a row, then each candidate behind it."""

    model: ModelIdentity
    otherwise: tuple[str, ...] = ()
    """Candidates of rows that offer none themselves; without them such rows fail."""

    kind: ClassVar[str] = "choice"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the likeliest candidate"),
        Field(
            "margin",
            "float32",
            "nats by which it is likelier than the next one, >= 0; inf: there was only one",
        ),
        Field("candidates", "int32", "how many there were, >= 1"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: ChoiceBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        offered = []
        for sample in samples:
            found = candidates(sample)
            offered.append(self.otherwise if found is None else found.texts)
        without = np.array([i for i, texts in enumerate(offered) if not texts], np.int64)
        if len(without):
            errors = ["the question shows no candidates to choose from"] * len(without)
            yield self._scored(
                without, [""] * len(without), np.zeros(len(without)), [0] * len(without), errors
            )
        index = np.array([i for i, texts in enumerate(offered) if texts], np.int64)
        if not len(index):
            return
        given = [offered[i] for i in index.tolist()]
        for piece in backend.choice([samples[i] for i in index.tolist()], given, pool):
            mine = [given[i] for i in piece.index.tolist()]
            texts = [c[int(k)] for c, k in zip(mine, piece.values["picked"], strict=True)]
            yield self._scored(
                index[piece.index],
                texts,
                piece.values["margin"],
                [len(c) for c in mine],
                piece.errors,
            )

    def _scored(
        self,
        index: np.ndarray,
        texts: list[str],
        margin: np.ndarray,
        count: list[int],
        errors: list[str],
    ) -> Scored:
        values = {
            "text": np.array(texts, dtype=object),
            "margin": np.asarray(margin, np.float32),
            "candidates": np.array(count, np.int32),
        }
        return Scored(index, values, list(errors))
