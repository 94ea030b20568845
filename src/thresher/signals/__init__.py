"""Signals: what can be known of a row, each a frozen dataclass whose fields are exactly what
changes the numbers."""

from thresher.signals.embedding import Embedding

__all__ = ["Embedding"]
