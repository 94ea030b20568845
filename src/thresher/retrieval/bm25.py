"""Okapi BM25 over short texts with bm25s (k1 = 1.5, b = 0.75, Lucene's variant), as in Yao et al.

Words are lower-cased runs of two or more letters or digits; there is no stemming and no stop list,
since a skill is a few words. Rows with equal scores are in the order of `ties`, which determines
most of a selection because skills repeat so often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thresher.errors import MissingExtra, opt
from thresher.extras import install_command

_WORD = r"(?u)\b\w\w+\b"


class Bm25:
    """A BM25 index.

    Arguments:
        documents: n texts, one per row.
        ties: uint64 [n], smallest first among equal scores.

    Raises MissingExtra without bm25s.
    """

    def __init__(self, documents: Sequence[str], ties: np.ndarray) -> None:
        try:
            import bm25s
        except ImportError as e:
            raise MissingExtra(
                "Retrieval by BM25 needs bm25s, which is not installed: "
                f"{install_command('retrieval')}. Or search by meaning: "
                f"{opt('settings.retrieval', 'embedding')}."
            ) from e
        self._bm25s = bm25s
        # rows are indexed in the order of `ties`, which stable sorting keeps for equal scores
        self.order = np.argsort(ties, kind="stable")
        self.index: Any = None
        ordered = [documents[i] for i in self.order.tolist()]
        tokens = bm25s.tokenize(ordered, token_pattern=_WORD, stopwords=None, show_progress=False)
        self._vocabulary: dict[str, int] = tokens.vocab
        if any(len(ids) for ids in tokens.ids):
            self.index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
            self.index.index(tokens, show_progress=False)

    def ranked(self, query: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """The best rows for a query: rows, int64 [k], and scores, float32 [k], best first.

        Arguments:
            query: a text.
            depth: maximum number of rows; rows with a score of 0 are not returned.
        """
        nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
        if self.index is None:
            return nothing
        words = self._bm25s.tokenize(
            query, token_pattern=_WORD, stopwords=None, return_ids=False, show_progress=False
        )[0]
        known = [w for w in words if w in self._vocabulary]
        if not known:
            return nothing
        scores = np.asarray(self.index.get_scores(known), np.float32)
        rows = best(scores, depth)
        return self.order[rows], scores[rows]


def best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Positions of the `depth` largest scores above 0, best first; ties by position.

    Arguments:
        scores: float32 [n], higher is better.
        depth: maximum number of positions.
    """
    positive = np.flatnonzero(scores > 0)
    if len(positive) > depth:
        least = np.partition(scores[positive], len(positive) - depth)[len(positive) - depth]
        above = positive[scores[positive] > least]
        equal = positive[scores[positive] == least][: depth - len(above)]
        positive = np.sort(np.r_[above, equal])
    return positive[np.argsort(-scores[positive], kind="stable")]
