"""What a row signal wants of the store: under which keys, what is there already, and in which order
the rest is read.

Copies of a row and rows with equal inputs share a key and are asked once. Reads the store and the
pool, writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.fingerprint import fingerprint
from thresher.storage.columns import Store
from thresher.types import CHANGED, DIGEST, RowSignal, digests_to_array

if TYPE_CHECKING:
    from thresher.pools import Pool


@dataclass(frozen=True)
class SignalRun:
    """What one row signal cost. All counts are distinct keys (exact duplicates count once)."""

    name: str
    label: str  # the name the method gave it, "outer.inner" for an input
    fingerprint: str
    wanted: int
    scored: int  # now, by this process
    failed: int  # of those wanted, now or before
    seconds: float
    # seconds that scoring all those wanted takes, as far as it was measured, now or before
    cost: float = 0.0
    elsewhere: int = 0  # by other processes during this run

    @property
    def reused(self) -> int:
        """Rows that were in the store already."""
        return self.wanted - self.scored - self.elsewhere


@dataclass(frozen=True)
class Request:
    """What a row signal wants of the store: one entry a distinct key, [m], sorted by key."""

    fingerprint: str
    keys: np.ndarray  # DIGEST [m]
    first: np.ndarray  # int64 [m]: the first position with this key
    rows: np.ndarray  # int64 [m]: how many rows of the pool share it
    positions: np.ndarray  # int64 [a]: active positions …
    inverse: np.ndarray  # int64 [a]: … and the entry of each
    values: dict[str, np.ndarray]
    errors: np.ndarray
    todo: np.ndarray  # bool [m]: not stored yet, or failed and to be tried again


def key_fields(signal: RowSignal) -> Sequence[tuple[str, str]] | None:
    """(input, field) of the values that a row's key covers beside its digest; None for a signal
    without inputs."""
    inputs = signal.inputs()
    if not inputs:
        return None
    every = tuple((name, f.name) for name, inner in inputs.items() for f in inner.fields)
    return getattr(type(signal), "key_fields", every)


def request(
    signal: RowSignal,
    positions: np.ndarray,
    digest: np.ndarray,
    values: Sequence[np.ndarray] | None,
    store: Store,
    retry_errors: bool,
) -> Request:
    """What is stored of a resolved signal for `positions` (int64 [a]); `digest`: DIGEST [a],
    `values`: an array [a] for each of `key_fields`. `retry_errors`: rows whose failure is stored
    count as missing. One that only says that a file changed in the middle of another run always
    does: that file was opened anew since."""
    keys = digest if values is None else _keys([digest, *values])
    unique, first, inverse, rows = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    fp = fingerprint(signal)
    stored, errors, found = store.load(fp, signal.fields, unique)
    todo = ~found | ((errors != "") & retry_errors) | of_another_run(errors)
    return Request(fp, unique, positions[first], rows, positions, inverse, stored, errors, todo)


def of_another_run(errors: np.ndarray) -> np.ndarray:
    """bool [m]: failures that say nothing about the row, only that its image was written to while
    it was scored."""
    return np.fromiter((CHANGED in e for e in errors), bool, len(errors))


def _keys(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The store's keys of rows that depend on more than themselves, DIGEST [a]: sha256(digest + the
    input values that matter)."""
    table = np.hstack([_as_bytes(p) for p in parts])
    return digests_to_array([hashlib.sha256(row).digest() for row in table])


def image_order(
    pool: Pool, digest: np.ndarray, request: Request, entries: np.ndarray
) -> np.ndarray:
    """Entries by (hash of the first image, digest, key): rows of one image become neighbours in any
    pool order."""
    image = np.zeros(len(entries), np.uint64)  # [e]: 0 without an image
    for i, identity in enumerate(pool.first_images(pool.order[request.first[entries]])):
        if identity:
            text = identity.encode("utf-8", "surrogatepass")
            image[i] = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    return entries[np.lexsort((request.keys[entries], digest[request.first[entries]], image))]


def blank(values: Mapping[str, np.ndarray], positions: np.ndarray) -> None:
    """Where no value is known (all but `positions`): NaN in floats, "" in texts; the rest is zero
    already."""
    for array in values.values():
        if array.dtype.kind in "fO":
            rest = np.ones(len(array), bool)
            rest[positions] = False
            array[rest] = np.nan if array.dtype.kind == "f" else ""


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """An array [m] -> uint8 [m, width], the same on every machine; text becomes its sha256."""
    if array.dtype.kind == "O":
        array = np.array(
            [hashlib.sha256(str(t).encode("utf-8", "surrogatepass")).digest() for t in array],
            DIGEST,
        )
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(array), array.dtype.itemsize)
