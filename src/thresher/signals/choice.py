"""The most likely of a row's candidate answers: multiple choice and yes/no without generated text.

The candidates come from the row itself (`answers/candidates.py`) or, if it has none, from
`otherwise`. The candidate with the largest summed log-probability is picked; of equal ones, the
first.
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
        """Yields `picked` int32, index into the row's candidates (at least one), and `margin`
        float32.

        Arguments:
            samples: n rows.
            candidates: for each row, the texts to choose from.
            pool: where images are loaded from.
        """


@dataclass(frozen=True)
class Choice:
    """One prompt per row, followed by each candidate."""

    model: ModelIdentity
    otherwise: tuple[str, ...] = ()
    """Candidates of rows that have none; without them, such rows fail."""

    kind: ClassVar[str] = "choice"
    version: ClassVar[int] = 2  # 2: from the end of the generation prompt
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the most likely candidate"),
        Field(
            "margin",
            "float32",
            "its log-probability minus that of the second, nats, >= 0; inf: there was only one",
        ),
        Field("candidates", "int32", "number of candidates, >= 1"),
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
            errors = ["no-candidates: the question has no candidates to choose from"] * len(without)
            yield self._scored(
                without, [""] * len(without), np.zeros(len(without)), [0] * len(without), errors
            )
        index = np.array([i for i, texts in enumerate(offered) if texts], np.int64)
        if not len(index):
            return
        given = [offered[i] for i in index.tolist()]
        for piece in backend.choice([samples[i] for i in index.tolist()], given, pool):
            row_candidates = [given[i] for i in piece.index.tolist()]
            texts = [c[int(k)] for c, k in zip(row_candidates, piece.values["picked"], strict=True)]
            yield self._scored(
                index[piece.index],
                texts,
                piece.values["margin"],
                [len(c) for c in row_candidates],
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
