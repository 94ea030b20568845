"""Retrieval of rows by skill: lexical (BM25) or by vector similarity (cosine).

Both implement `Ranking` (see `samplers/retrieve.py`). BM25 needs bm25s, an extra.
"""

from thresher.retrieval.bm25 import Bm25
from thresher.retrieval.cosine import Cosine

__all__ = ["Bm25", "Cosine"]
