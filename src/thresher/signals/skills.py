"""Skills of a pool: groups of rows that a model reads alike, found without a label.

Leaves are clusters of the model's mean states of question and answer; parents are clusters of
leaves. Rows with and without an image are never in one leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.clusters import Tree, distinctive_words, grow_tree, unit_vectors
from thresher.errors import ConfigError
from thresher.signals.embedding import Embedding
from thresher.signals.image_count import ImageCount
from thresher.signals.vectors import from_bytes
from thresher.types import IMAGE_PLACEHOLDER, AnyModel, Columns, Field, Sample, Signal

WORD_ROWS = 12  # of a leaf, the most typical ones: what its words are taken from
WORDS = 4
_READ_ROWS = 8192  # read at once


@dataclass(frozen=True)
class Skills:
    """Two levels of clusters, the same for every seed and budget."""

    question: Signal
    """An embedding of the row's question, with a field `vector` (`signals.vectors`): zeros where
    the row has none."""
    answer: Signal
    """The same of its answers."""
    leaves: int | None = None
    """None: one per `clusters.LEAF_ROWS` rows."""
    dims: int = 64
    """Principal components of the joined parts."""
    iterations: int = 15
    """Of k-means, at most."""

    kind: ClassVar[str] = "skills"
    version: ClassVar[int] = 2
    fields: ClassVar[tuple[Field, ...]] = (
        Field("leaf", "int32", "number of the row's skill, from 0"),
        Field("parent", "int32", "number of the group of skills that it belongs to, from 0"),
        Field("typicality", "float32", "cosine with the centre of the skill, -1 to 1"),
        Field("words", "str", "the words that set the skill apart, the foremost first"),
        Field("parent_words", "str", "the words that set the group of skills apart"),
    )

    def __post_init__(self) -> None:
        if self.leaves is not None and self.leaves < 1:
            raise ConfigError(f"leaves={self.leaves}: at least 1, or none for one per 30 rows.")

    def inputs(self) -> Mapping[str, Signal]:
        return {"question": self.question, "answer": self.answer, "images": ImageCount()}

    def pool_rows(
        self, inputs: Columns, samples: Callable[[np.ndarray], Sequence[Sample]]
    ) -> dict[str, np.ndarray]:
        parts = [from_bytes(inputs[name]["vector"]) for name in ("question", "answer")]
        with_image = (np.asarray(inputs["images"]["images"]) > 0).astype(np.int64)
        tree = grow_tree(
            unit_vectors(parts, self.dims),
            with_image,
            self.leaves,
            self.iterations,
        )
        words, parent_words = _words(tree, samples)
        return {
            "leaf": tree.leaf,
            "parent": tree.parent,
            "typicality": tree.typicality,
            "words": words[tree.leaf],
            "parent_words": parent_words[tree.parent],
        }


def skills_of(model: AnyModel, leaves: int | None = None, layer: float = 0.5) -> Skills:
    """Skills by what the model makes of question and answer at this depth, 0 … 1."""
    return Skills(Embedding(model, layer, "question"), Embedding(model, layer, "answer"), leaves)


def balanced_groups(
    columns: Columns, balance: Literal["none", "source", "skill"], rows: np.ndarray
) -> np.ndarray | None:
    """The groups that a method's `balance` gives equal parts, int [m] for some rows (int64 [m] or
    bool); None for none. Skills are read from `columns["skills"]`."""
    if balance == "none":
        return None
    group = columns.source if balance == "source" else np.asarray(columns["skills"]["leaf"])
    return group[rows]


def typical_rows(leaf: np.ndarray, typicality: np.ndarray, most: int) -> np.ndarray:
    """The `most` rows of each leaf that are nearest its centre, int64, leaf by leaf, the nearest
    first; of equals the first."""
    order = np.lexsort((-typicality, leaf))
    start = np.searchsorted(leaf[order], leaf[order])
    rows: np.ndarray = order[np.arange(len(order)) - start < most]
    return rows


def _words(
    tree: Tree, samples: Callable[[np.ndarray], Sequence[Sample]]
) -> tuple[np.ndarray, np.ndarray]:
    """The words of each leaf and of each parent, object [leaves] and [parents]."""
    rows = typical_rows(tree.leaf, tree.typicality, WORD_ROWS)
    texts: list[str] = []
    for start in range(0, len(rows), _READ_ROWS):
        texts += map(_text, samples(rows[start : start + _READ_ROWS]))
    found = []
    for cluster in (tree.leaf, tree.parent):
        words = distinctive_words(texts, cluster[rows], WORDS)
        found.append(np.array([" ".join(w) for w in words], object))
    return found[0], found[1]


def _text(sample: Sample) -> str:
    said = [turn.text for turn in sample.turns if turn.role != "system"]
    return "\n".join(said).replace(IMAGE_PLACEHOLDER, " ")
