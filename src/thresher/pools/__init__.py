"""Pools: what a user has to choose from, in any format; one file a format (docs/formats)."""

from thresher.pools.opening import open_pool
from thresher.pools.pool import Pool

__all__ = ["Pool", "open_pool"]
