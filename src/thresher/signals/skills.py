"""Skills of a pool: clusters of rows with similar embeddings, found without labels.

Leaves are clusters of the embeddings of question and answer (a model's mean hidden states, or a
server's vectors); parents are clusters of leaves. Rows with and without visual input (an image, or
a video whose frames are scored) are never in the same leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.clusters import Tree, distinctive_words, grow_tree, unit_vectors
from thresher.errors import ConfigError
from thresher.signals.pooled_embedding import embedding_of
from thresher.signals.vectors import from_bytes
from thresher.signals.visual_input import VisualInput
from thresher.types import IMAGE_PLACEHOLDER, AnyModel, Columns, Field, Sample, Signal

WORD_ROWS = 12  # most typical rows of a leaf, from which its words are taken
WORDS = 4
_READ_ROWS = 8192  # rows read at once


@dataclass(frozen=True)
class Skills:
    """Two levels of clusters, independent of seed and budget."""

    question: Signal
    """Embedding of the row's question, with a field `vector` (`signals.vectors`); zeros if the row
    has none."""
    answer: Signal
    """Embedding of the row's answers, likewise."""
    leaves: int | None = None
    """Number of skills; None: one per `clusters.LEAF_ROWS` rows."""
    dims: int = 64
    """Principal components of the concatenated embeddings."""
    iterations: int = 15
    """Maximum number of k-means iterations."""

    kind: ClassVar[str] = "skills"
    version: ClassVar[int] = 2
    fields: ClassVar[tuple[Field, ...]] = (
        Field("leaf", "int32", "number of the row's skill, from 0"),
        Field("parent", "int32", "number of the row's group of skills, from 0"),
        Field("typicality", "float32", "cosine with the centre of the skill, -1 to 1"),
        Field("words", "str", "characteristic words of the skill, highest weight first"),
        Field("parent_words", "str", "characteristic words of the group of skills"),
    )

    def __post_init__(self) -> None:
        if self.leaves is not None and self.leaves < 1:
            raise ConfigError(f"leaves={self.leaves}: at least 1, or none for one per 30 rows.")

    def inputs(self) -> Mapping[str, Signal]:
        return {"question": self.question, "answer": self.answer, "visual": VisualInput()}

    def pool_rows(
        self, inputs: Columns, samples: Callable[[np.ndarray], Sequence[Sample]]
    ) -> dict[str, np.ndarray]:
        parts = [from_bytes(inputs[name]["vector"]) for name in ("question", "answer")]
        with_image = np.asarray(inputs["visual"]["given"], bool).astype(np.int64)
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
    """Skills from embeddings of question and answer.

    Arguments:
        model: the embedder.
        leaves: number of skills; None: one per 30 rows.
        layer: depth of the hidden states, 0 (embeddings) to 1 (last layer); of no use for the
            vectors of a server.
    """
    return Skills(
        embedding_of(model, layer, "question"), embedding_of(model, layer, "answer"), leaves
    )


def balanced_groups(
    columns: Columns, balance: Literal["none", "source", "skill"], rows: np.ndarray
) -> np.ndarray | None:
    """The groups to balance over, int [m]; None for `balance` "none".

    Arguments:
        columns: of the method; skills are read from `columns["skills"]`.
        balance: setting of a method.
        rows: int64 [m] or bool [n], the rows.
    """
    if balance == "none":
        return None
    group = columns.source if balance == "source" else np.asarray(columns["skills"]["leaf"])
    return group[rows]


def typical_rows(leaf: np.ndarray, typicality: np.ndarray, most: int) -> np.ndarray:
    """The `most` rows of each leaf nearest to its centre, int64, leaf by leaf, nearest first; ties
    in the order of rows.

    Arguments:
        leaf: int32 [n], the cluster of each row.
        typicality: float [n], cosine with the centre of the cluster.
        most: maximum number of rows per cluster.
    """
    order = np.lexsort((-typicality, leaf))
    start = np.searchsorted(leaf[order], leaf[order])
    rows: np.ndarray = order[np.arange(len(order)) - start < most]
    return rows


def _words(
    tree: Tree, samples: Callable[[np.ndarray], Sequence[Sample]]
) -> tuple[np.ndarray, np.ndarray]:
    """Characteristic words of each leaf and of each parent, object [leaves] and [parents]."""
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
    texts = [turn.text for turn in sample.turns if turn.role != "system"]
    return "\n".join(texts).replace(IMAGE_PLACEHOLDER, " ")
