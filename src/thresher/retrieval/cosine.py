"""Exact retrieval of rows by cosine similarity with a query; ties in the order of `ties`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.retrieval.bm25 import best


class Cosine:
    """Vectors of rows and queries.

    Arguments:
        rows: float32 [n, d], unit vectors; a zero vector (no text) is never retrieved.
        ties: uint64 [n], smallest first among equal scores.
        queries: text -> unit vector, float32 [d].
    """

    def __init__(
        self, rows: np.ndarray, ties: np.ndarray, queries: Mapping[str, np.ndarray]
    ) -> None:
        self.order = np.argsort(ties, kind="stable")
        self.rows = rows[self.order]
        self.queries = queries

    def ranked(self, query: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """The best rows for a query: rows, int64 [k], and cosines, float32 [k], best first.

        Arguments:
            query: a key of `queries`.
            depth: maximum number of rows; rows with a cosine of 0 or less are not returned.
        """
        scores = self.rows @ self.queries[query].astype(np.float32)
        rows = best(scores, depth)
        return self.order[rows], scores[rows].astype(np.float32)
