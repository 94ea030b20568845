"""Quantile bins: a histogram with about the same number of rows in each bin."""

from __future__ import annotations

import numpy as np


def quantile_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each value, int32 [n], 0 = smallest values, numbered without gaps.

    Arguments:
        values: finite [n].
        bins: maximum number of bins. Equal values always share a bin: with many ties there are
            fewer bins, of unequal size.

    >>> quantile_bins(np.array([5.0, 1.0, 4.0, 2.0]), 2).tolist()
    [1, 0, 1, 0]
    >>> quantile_bins(np.array([7.0, 7.0, 7.0]), 20).tolist()
    [0, 0, 0]
    """
    if len(values) == 0:
        return np.zeros(0, np.int32)
    ordered = np.sort(values)
    # the first value of each of `bins` equal runs of the sorted array: every edge is a value
    starts = np.arange(1, bins) * len(ordered) // bins
    edges = np.unique(ordered[starts])
    number = np.searchsorted(edges, values, side="right")
    _, dense = np.unique(number, return_inverse=True)
    return dense.astype(np.int32)
