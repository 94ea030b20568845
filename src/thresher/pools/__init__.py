"""Pools: the samples a user has, in any format; one module per format (docs/formats)."""

from thresher.pools.opening import open_pool
from thresher.pools.pool import Pool

__all__ = ["Pool", "open_pool"]
