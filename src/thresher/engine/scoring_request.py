"""The values of a row signal: their keys, which of them are stored, and the order in which missing
rows are scored.

Copies of a row have equal keys and are scored once, as long as their inputs are equal. Reads the
store and the pool, writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.table import ColumnTable
from thresher.errors import StoreError
from thresher.fingerprint import fingerprint
from thresher.storage.columns import Store
from thresher.types import CHANGED, DIGEST, RowError, RowSignal, digests_to_array

if TYPE_CHECKING:
    from thresher.pools.view import PoolView


@dataclass(frozen=True)
class SignalRun:
    """What one row signal cost. All counts are distinct keys (exact duplicates count once)."""

    name: str
    label: str  # the name the method gave it, "outer.inner" for an input
    fingerprint: str
    needed: int
    scored: int  # in this run, by this process
    failed: int  # of those needed, in this run or before
    seconds: float
    # seconds to score all rows that are needed, as far as it was measured, in any run
    cost: float = 0.0
    elsewhere: int = 0  # by other processes during this run

    @property
    def reused(self) -> int:
        """Rows that were in the store already."""
        return self.needed - self.scored - self.elsewhere


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """The rows for which a row signal is needed, and what the store has of them.

    Arrays [m] have one entry for each distinct key, ascending: copies of a row share one. Arrays
    [r] have one for each row.
    """

    signal: RowSignal  # resolved: a model to be trained is replaced by its identity
    label: str
    fingerprint: str
    keys: np.ndarray  # DIGEST [m]
    first: np.ndarray  # int64 [m]: the first position with this key
    copies: np.ndarray  # int64 [m]: rows that share it
    positions: np.ndarray  # int64 [r], ascending
    entry: np.ndarray  # int64 [r]: the entry of each position
    values: dict[str, np.ndarray]  # field -> array [m]; meaningful where stored
    errors: np.ndarray  # object [m], str: why a row has no values; "" if it has
    missing: np.ndarray  # bool [m]: not stored yet, or failed and to be scored again

    @property
    def rows_missing(self) -> int:
        """Number of rows whose value is missing; each copy counts."""
        return int(self.copies[self.missing].sum())

    def loaded(self, store: Store) -> ScoringRequest:
        """The same request with what the store has now. Raises StoreError if some values are still
        missing."""
        values, errors, found = store.load(self.fingerprint, self.signal.fields, self.keys)
        if not found.all():
            raise StoreError(
                f"{int((~found).sum()):,} rows of {self.label} were scored but are no longer in "
                f"{store.folder(self.fingerprint)}: were files removed or damaged "
                "meanwhile? Run the same command again."
            )
        return replace(self, values=values, errors=errors, missing=~found)


def key_values(signal: RowSignal, table: ColumnTable) -> dict[tuple[str, str], np.ndarray]:
    """(input, field) -> array [n]: the values that are part of a row's key besides its digest.

    Arguments:
        signal: the signal.
        table: holds its inputs.
    """
    inputs = signal.inputs()
    every = [(name, f.name) for name, inner in inputs.items() for f in inner.fields]
    named = getattr(type(signal), "key_fields", every) if inputs else ()
    return {(name, field): table[inputs[name]][field] for name, field in named}


def make_scoring_request(
    signal: RowSignal,
    label: str,
    positions: np.ndarray,
    table: ColumnTable,
    store: Store,
    retry_errors: bool,
    since: int,
) -> ScoringRequest:
    """Look up which values of a signal are stored.

    Arguments:
        signal: resolved.
        label: its name in messages.
        positions: int64 [r], ascending: the rows for which it is needed.
        table: holds the signal's inputs.
        store: where the values are looked up.
        retry_errors: rows with a stored failure count as missing. A failure because a file changed
            during another run always counts as missing.
        since: when the command began, `time.time_ns()`: failures that were stored later are not
            tried again.
    """
    digest = table.numbering.digest[positions]  # [r] DIGEST
    inputs = [array[positions] for array in key_values(signal, table).values()]
    keys, first, entry, copies = (
        np.unique(
            _keys([digest, *inputs]),  # [r] DIGEST
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        if signal.inputs()
        else _unique_of_sorted(digest)
    )
    fp = fingerprint(signal)
    values, errors, found = store.load(fp, signal.fields, keys)
    again = ((errors != "") & retry_errors) | because_files_changed(errors)  # [m] bool
    if again.any():
        again &= ~_tried(store, fp, keys, since)
    missing = ~found | again  # [m] bool
    first = positions[first]  # [m] int64: an index into `positions` becomes a position
    return ScoringRequest(
        signal, label, fp, keys, first, copies, positions, entry, values, errors, missing
    )


def _unique_of_sorted(
    digest: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `np.unique` returns, without sorting: at a million rows that is most of a lookup.

    digest: DIGEST [r], ascending.
    """
    new = np.ones(len(digest), bool)
    new[1:] = digest[1:] != digest[:-1]
    first = np.flatnonzero(new)
    return digest[first], first, np.cumsum(new) - 1, np.diff(first, append=len(digest))


def _tried(store: Store, fp: str, keys: np.ndarray, since: int) -> np.ndarray:
    """bool [m]: whether a failure of the row was stored at the time `since` or later."""
    failed = [
        part.keys[~part.succeeded & (part.written >= since)] for part in store.new_keys(fp, set())
    ]
    out: np.ndarray = np.isin(keys, np.concatenate([keys[:0], *failed]))
    return out


def because_files_changed(errors: np.ndarray) -> np.ndarray:
    """bool [m]: failures because an image was written to while its row was scored. They say nothing
    about the row. `errors`: object [m], str."""
    out = np.zeros(len(errors), bool)
    failed = np.flatnonzero(errors != "")  # few of millions
    out[failed] = [RowError.parse(e).kind == CHANGED for e in errors[failed].tolist()]
    return out


def _keys(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The keys of rows whose values also depend on inputs, DIGEST [r]: sha256(digest + inputs).

    `parts`: [r] each, the digest first.
    """
    table = np.hstack([_as_bytes(p) for p in parts])  # [r, bytes] uint8
    return digests_to_array([hashlib.sha256(row).digest() for row in table])


def image_order(pool: PoolView, pool_rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """An order in which rows with the same image are neighbours; independent of the pool's order.

    Sorted by the hash of the first image, then digest, then key. Read from the pool's index: no row
    is parsed.

    Arguments:
        pool: the pool.
        pool_rows: int64 [e], the rows to order.
        keys: DIGEST [e], their keys.

    Returns int64 [e], indices into `pool_rows`.
    """
    image = np.zeros(len(pool_rows), np.uint64)  # [e], 0 without an image
    for i, identity in enumerate(pool.first_images(pool_rows)):
        if identity:
            text = identity.encode("utf-8", "surrogatepass")
            image[i] = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    return np.lexsort((keys, pool.digest[pool_rows], image))


def blank(values: Mapping[str, np.ndarray], positions: np.ndarray) -> None:
    """Mark rows without a value: NaN in floats, "" in texts; other fields are zero already.

    Arguments:
        values: field -> array [n], changed in place.
        positions: int64 [r], rows with a value.
    """
    for array in values.values():
        if array.dtype.kind in "fO":
            rest = np.ones(len(array), bool)  # [n]
            rest[positions] = False
            array[rest] = np.nan if array.dtype.kind == "f" else ""


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """An array [r] -> uint8 [r, width], the same on every machine; text becomes its sha256."""
    if array.dtype.kind == "O":
        array = np.array(
            [hashlib.sha256(str(t).encode("utf-8", "surrogatepass")).digest() for t in array],
            DIGEST,
        )
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(array), array.dtype.itemsize)
