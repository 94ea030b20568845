"""Stable orderings of many rows by one or two keys."""

from __future__ import annotations

import numpy as np


def stable_order(values: np.ndarray, ties: np.ndarray | None = None) -> np.ndarray:
    """Row indices that sort `values` ascending, int64 [n]; ties by `ties`, else by position."""
    return np.lexsort((values,) if ties is None else (ties, values))


def order_by(major: np.ndarray, minor: np.ndarray | None = None) -> np.ndarray:
    """As `np.lexsort((minor, major))` for integers >= 0, in a third of the time if they fit in 63
    bits.

    >>> order_by(np.array([1, 0, 1, 0]), np.array([0, 5, 0, 4])).tolist()
    [3, 1, 0, 2]
    """
    n = len(major)
    top = int(major.max(initial=0)) + 1
    low = 1 if minor is None else int(minor.max(initial=0)) + 1
    bits = max(n - 1, 1).bit_length()
    if top * low >= 1 << (63 - bits):
        return np.lexsort((major,) if minor is None else (minor, major))
    key = major.astype(np.int64)
    if minor is not None:
        key = key * low + minor
    key = (key << bits) | np.arange(n)  # position in the low bits: keys are distinct
    key.sort()
    return key & ((1 << bits) - 1)


def inverse_permutation(order: np.ndarray) -> np.ndarray:
    """The rank of each position in the permutation `order`, int64 [n]."""
    out = np.empty(len(order), np.int64)
    out[order] = np.arange(len(order))
    return out
