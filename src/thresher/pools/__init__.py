"""Pools: what a user has to choose from, one file a format. Today: LLaVA JSON and JSONL."""

from thresher.pools.pool import Pool, open_pool

__all__ = ["Pool", "open_pool"]
