"""Candidate pairs for comparison: items that share a band of their signature (LSH). Pure numpy.

Items with equal keys form a bucket. Small buckets give all their pairs; in a large one each item is
paired with its next neighbours in the order of the whole signature and with the bucket's first
item, so that the work stays linear. Pairs missed there are found by another band or by the closure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from thresher.duplicates.text import merge_pairs

NEIGHBOURS = 12
CHUNK = 1 << 18  # candidate pairs compared at once: bounds memory


def candidate_pairs(
    bands: Iterable[np.ndarray],
    order: np.ndarray,
    same: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Pairs that share a key in a band and for which `same(a, b)` holds.

    Arguments:
        bands: arrays uint64 [n], one key per item.
        order: uint64 [n]; places similar items near each other within a large bucket.
        same: two index arrays int64 [m] -> bool [m].

    Returns int64 [p, 2], smaller index first, sorted.
    """
    matches = []
    for band in bands:
        by_key = np.lexsort((order, band))
        key = band[by_key]
        n = len(key)
        start = np.r_[True, key[1:] != key[:-1]] if n else np.zeros(0, bool)
        first = np.maximum.accumulate(np.where(start, np.arange(n), 0))
        found = []
        for step in range(1, min(NEIGHBOURS, n - 1) + 1):
            equal_keys = np.flatnonzero(key[step:] == key[:-step])
            if not len(equal_keys):
                break
            found.append(np.stack([by_key[equal_keys], by_key[equal_keys + step]], axis=1))
        distant = np.flatnonzero(np.arange(n) - first > NEIGHBOURS)
        if len(distant):
            found.append(np.stack([by_key[first[distant]], by_key[distant]], axis=1))
        for candidates in found:
            for i in range(0, len(candidates), CHUNK):
                chunk = candidates[i : i + CHUNK]
                matching = chunk[same(chunk[:, 0], chunk[:, 1])]
                if len(matching):
                    matches.append(matching)
    return merge_pairs(matches)


def hash_rows(rows: np.ndarray) -> np.ndarray:
    """A hash of each row, uint64 [n]. `rows`: integers [n, w]."""
    if not len(rows):
        return np.zeros(0, np.uint64)
    data = np.ascontiguousarray(rows)
    words = data.view(np.uint8).reshape(len(data), -1)
    pad = -words.shape[1] % 8
    if pad:
        words = np.hstack([words, np.zeros((len(words), pad), np.uint8)])
    table = np.ascontiguousarray(words).view("<u8")
    out = np.full(len(table), 0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for column in range(table.shape[1]):
            out = (out ^ table[:, column]) * np.uint64(0xBF58476D1CE4E5B9)
            out ^= out >> np.uint64(29)
    return out
