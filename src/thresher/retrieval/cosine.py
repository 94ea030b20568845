"""Rows by the cosine of their vectors with a query's; equals by `ties`. Exact: every row is
compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.retrieval.bm25 import best


class Cosine:
    """`rows`: float32 [n, d] and `queries`: text -> float32 [d], all of length 1 (or 0: no text,
    never found)."""

    def __init__(
        self, rows: np.ndarray, ties: np.ndarray, queries: Mapping[str, np.ndarray]
    ) -> None:
        self.order = np.argsort(ties, kind="stable")
        self.rows = rows[self.order]
        self.queries = queries

    def ranked(self, query: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 [k], float32 [k], k <= depth: the rows of cosine above 0, best first."""
        scores = self.rows @ self.queries[query].astype(np.float32)
        rows = best(scores, depth)
        return self.order[rows], scores[rows].astype(np.float32)
