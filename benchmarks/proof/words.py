"""winnow with skills from the words of a row instead of the model's hidden states: an ablation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from zlib import crc32

import numpy as np

from thresher.clusters import grow_tree, unit_vectors
from thresher.methods.winnow import Winnow
from thresher.signals.visual_input import VisualInput
from thresher.types import IMAGE_PLACEHOLDER, Columns, Field, MethodContext, Sample, Signal

BUCKETS = 512
DIMS = 64  # as in Skills
ITERATIONS = 15


@dataclass(frozen=True)
class WordSkills:
    """`Skills` from hashed counts of the words of questions and answers."""

    leaves: int | None = None

    kind: ClassVar[str] = "word_skills"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("leaf", "int32", "number of the row's skill, from 0"),
        Field("parent", "int32", "number of the row's group of skills, from 0"),
        Field("words", "str", "not computed: empty"),
        Field("parent_words", "str", "not computed: empty"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"visual": VisualInput()}

    def pool_rows(
        self, inputs: Columns, samples: Callable[[np.ndarray], Sequence[Sample]]
    ) -> dict[str, np.ndarray]:
        n = len(inputs)
        rows = samples(np.arange(n))
        parts = [hashed_words([_text(row, asks) for row in rows]) for asks in (True, False)]
        with_image = np.asarray(inputs["visual"]["given"], bool).astype(np.int64)
        tree = grow_tree(unit_vectors(parts, DIMS), with_image, self.leaves, ITERATIONS)
        empty = np.full(n, "", object)
        return {"leaf": tree.leaf, "parent": tree.parent, "words": empty, "parent_words": empty}


def hashed_words(texts: Sequence[str]) -> np.ndarray:
    """Counts of words by hash, float32 [n, BUCKETS]."""
    out = np.zeros((len(texts), BUCKETS), np.float32)
    for counts, text in zip(out, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            counts[crc32(word.encode()) % BUCKETS] += 1
    return out


def _text(sample: Sample, asks: bool) -> str:
    """All questions of a row, or all of its answers."""
    role = "user" if asks else "assistant"
    text = "\n".join(turn.text for turn in sample.turns if turn.role == role)
    return text.replace(IMAGE_PLACEHOLDER, " ")


@dataclass(frozen=True)
class WordsWinnow(Winnow):
    """Only its clusters differ from those of winnow."""

    name: ClassVar[str] = "words"
    summary: ClassVar[str] = "winnow with clusters of words."

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {**super().signals(context), "skills": WordSkills(self.leaves)}
