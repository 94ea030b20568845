"""Rows that are about something, best first: by the words of their skills (BM25) or by their
meaning (vectors).

Both give a `Ranking` (see `samplers/retrieve.py`). Touches no file and no model; bm25s is an extra.
"""

from thresher.retrieval.bm25 import Bm25
from thresher.retrieval.cosine import Cosine

__all__ = ["Bm25", "Cosine"]
