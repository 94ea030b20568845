"""Stable orderings of many rows by one or two keys, cached where the same arrays are sorted again.

Sorting dominates the cost of choosing among a million rows. Inside `with use_cache(SortCache())`
(the viewer's) equal arrays are not sorted twice: they are identified by a hash of their content,
so results are the same with and without a cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

MAX_ENTRIES = 24  # results in one cache; 8 MB each for a million rows
MIN_ROWS = 10_000  # sorting fewer rows costs less than hashing them
_T = TypeVar("_T")


class SortCache:
    """Least-recently-used cache of results, keyed by array content. Thread-safe."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes, make: Callable[[], _T]) -> _T:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        result = make()
        with self._lock:
            self._entries[key] = result
            while len(self._entries) > MAX_ENTRIES:
                self._entries.popitem(last=False)
        return result


_current: ContextVar[SortCache | None] = ContextVar("sort_cache", default=None)


@contextlib.contextmanager
def use_cache(sort_cache: SortCache) -> Iterator[None]:
    """Use `sort_cache` for everything computed inside the block."""
    token = _current.set(sort_cache)
    try:
        yield
    finally:
        _current.reset(token)


def cached(name: str, arrays: tuple[np.ndarray, ...], make: Callable[[], _T]) -> _T:
    """`make()`, cached by `name` and the content of `arrays`, which must determine it.

    The arrays that `make` returns must not be modified.

    Arguments:
        name: of the computation.
        arrays: the arrays that its result depends on.
        make: computes the result.
    """
    cache = _current.get()
    if cache is None or len(arrays[0]) < MIN_ROWS:
        return make()
    key = hashlib.blake2b(name.encode(), digest_size=20)
    for a in arrays:
        key.update(f"|{a.dtype.str}{a.shape}".encode())
        key.update(np.ascontiguousarray(a).data)
    return cache.get(key.digest(), make)


def stable_order(values: np.ndarray, ties: np.ndarray | None = None) -> np.ndarray:
    """Row indices that sort `values` ascending, int64 [n]; ties by `ties`, else by position.

    Arguments:
        values: [n].
        ties: uint64 [n], smallest first among equal values.
    """
    arrays = (values,) if ties is None else (values, ties)

    def make() -> np.ndarray:
        if ties is None:
            return _order(values)
        first = order_hashes(ties)
        return first[_order(values[first])]

    return cached("order", arrays, make)


def _order(values: np.ndarray) -> np.ndarray:
    """Row indices that sort `values` ascending, int64 [n]; equal ones by position."""
    if values.dtype == np.float32:
        return order_by(_ordinals(values))
    if values.dtype == np.uint64:
        return order_hashes(values)
    if values.dtype.kind in "iu" and values.min(initial=0) >= 0:
        return order_by(values)
    return np.argsort(values, kind="stable")


def order_hashes(values: np.ndarray) -> np.ndarray:
    """As `np.argsort(values, kind="stable")`, several times faster where few values are equal.

    Arguments:
        values: uint64 [n], such as seeded ties.
    """
    n = len(values)
    bits = max(n - 1, 1).bit_length()
    low = np.uint64((1 << bits) - 1)
    key = (values & ~low) | np.arange(n, dtype=np.uint64)  # position in the low bits
    key.sort()
    order = (key & low).astype(np.int64)
    key >>= np.uint64(bits)
    same = key[1:] == key[:-1]
    if same.any():  # values that differ in the low bits only, or not at all
        at = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
        order[at] = order[at][np.argsort(values[order[at]], kind="stable")]
    return order


def _ordinals(values: np.ndarray) -> np.ndarray:
    """Integers in the order of numbers, int64 [n], >= 0; equal for equal numbers, largest for NaN.

    values: float32 [n].
    """
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)  # -0.0 becomes 0.0
    ordinals = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + 0x80000000
    ordinals[np.isnan(values)] = 0xFFFFFFFF
    return ordinals


def order_by(major: np.ndarray, minor: np.ndarray | None = None) -> np.ndarray:
    """As `np.lexsort((minor, major))` for integers >= 0, in a third of the time if each fits in 63
    bits with the number of its position.

    Arguments:
        major: integers [n], >= 0: the first key.
        minor: integers [n], >= 0: orders rows with equal `major`.

    >>> order_by(np.array([1, 0, 1, 0]), np.array([0, 5, 0, 4])).tolist()
    [3, 1, 0, 2]
    """
    n = len(major)
    top = int(major.max(initial=0)) + 1
    low = 1 if minor is None else int(minor.max(initial=0)) + 1
    bits = max(n - 1, 1).bit_length()
    if top * low >= 1 << (63 - bits):
        if minor is None:
            return np.lexsort((major,))
        first = order_by(minor)
        return first[order_by(major[first])]
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
