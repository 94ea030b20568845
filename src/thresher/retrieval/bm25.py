"""Okapi BM25 over short texts with bm25s (k1 = 1.5, b = 0.75, Lucene's variant), as in Yao et al.

Words are lower-cased runs of two or more letters or digits; there is no stemming and no stop list,
since a skill is a few words. Rows with equal scores are in the order of `ties`, which determines
most of a selection because skills repeat so often.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thresher.errors import MissingExtra, opt
from thresher.extras import install_command
from thresher.stats.distinct import distinct_texts

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
        # skills repeat: words are counted once for each distinct text
        texts, text = distinct_texts(np.asarray(documents, object))
        self._text = text[self.order]  # [n], the text of each row
        self._by_text = np.argsort(self._text, kind="stable")  # [n], rows by text
        self._rows = np.bincount(text, minlength=len(texts))  # [texts], rows of each text
        self._start = np.cumsum(self._rows) - self._rows  # [texts], where they are in `_by_text`
        tokens = bm25s.tokenize(
            list(texts), token_pattern=_WORD, stopwords=None, show_progress=False
        )
        self._vocabulary: dict[str, int] = tokens.vocab
        if any(len(ids) for ids in tokens.ids):
            self.index = _index_class()(self._rows)
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
        of_text = np.asarray(self.index.get_scores(known), np.float32)
        rows = self._rows_of(_at_least_best(of_text, depth))
        scores = of_text[self._text[rows]]
        first = best(scores, depth)
        return self.order[rows[first]], scores[first]

    def _rows_of(self, texts: np.ndarray) -> np.ndarray:
        """The rows with one of these texts, int64, ascending.

        texts: int64, ascending.
        """
        number = self._rows[texts]
        first = self._start[texts] - (np.cumsum(number) - number)
        rows = self._by_text[np.arange(number.sum()) + np.repeat(first, number)]
        return np.sort(rows)


@functools.cache
def _index_class() -> type:
    """A BM25 index of distinct texts, each of which counts as often as rows have it."""
    import bm25s

    class RowIndex(bm25s.BM25):  # type: ignore[misc]
        """Arguments:
        rows: int64 [texts], number of rows of each text.
        """

        def __init__(self, rows: np.ndarray) -> None:
            super().__init__(method="lucene", k1=1.5, b=0.75)
            self._rows = rows

        def build_index_from_ids(
            self, unique_token_ids: list[int], corpus_token_ids: list[list[int]], **_: bool
        ) -> dict[str, Any]:
            """As the overridden method, with the same scores as if every row were a document."""
            self.nonoccurrence_array = None  # of other variants than Lucene's
            return _scores(corpus_token_ids, len(unique_token_ids), self._rows, self.k1, self.b)

    return RowIndex


def _scores(
    texts: list[list[int]], words: int, rows: np.ndarray, k1: float, b: float
) -> dict[str, Any]:
    """The scores of each word in each text as bm25s keeps them, a matrix by columns.

    Arguments:
        texts: the words of each distinct text.
        words: size of the vocabulary.
        rows: int64 [texts], number of rows of each text.
        k1, b: of BM25.
    """
    length = np.array([len(ids) for ids in texts], np.int64)
    flat = np.fromiter(itertools.chain.from_iterable(texts), np.int64, int(length.sum()))
    # pairs of a word and a text, by word
    pair, times = np.unique(
        flat * len(texts) + np.repeat(np.arange(len(texts)), length), return_counts=True
    )
    word, text = np.divmod(pair, len(texts))
    n = int(rows.sum())
    with_word = np.bincount(word, rows[text], words).tolist()
    idf = np.array([math.log(1 + (n - df + 0.5) / (df + 0.5)) for df in with_word], np.float32)
    mean = float((length * rows).sum()) / n
    score = idf[word] * (times / (k1 * ((1 - b) + b * length[text] / mean) + times))
    ends = np.cumsum(np.bincount(word, minlength=words))
    return {
        "data": score.astype(np.float32),
        "indices": text.astype(np.int32),
        "indptr": np.r_[0, ends],
        "num_docs": len(texts),
    }


def _at_least_best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Positions of the `depth` largest scores above 0 and of those equal to the least of them,
    int64, ascending.

    Arguments:
        scores: float32 [n].
        depth: of a search.
    """
    positive = np.flatnonzero(scores > 0)
    if len(positive) > depth:
        cut = len(positive) - depth
        positive = positive[scores[positive] >= np.partition(scores[positive], cut)[cut]]
    return positive


def best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Positions of the `depth` largest scores above 0, best first; ties by position.

    Arguments:
        scores: float32 [n], higher is better.
        depth: maximum number of positions.
    """
    positive = _at_least_best(scores, depth)
    return positive[np.argsort(-scores[positive], kind="stable")][:depth]
