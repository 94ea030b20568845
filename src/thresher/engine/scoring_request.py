"""The values of a row signal in the store: their keys, which are stored already, and in which order
the missing rows are read.

Copies of a row and rows with equal inputs share a key and are scored once. Reads the store and the
pool, writes nothing.
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
    wanted: int
    scored: int  # now, by this process
    failed: int  # of those needed, now or before
    seconds: float
    # seconds to score all rows that are needed, as far as measured, now or before
    cost: float = 0.0
    elsewhere: int = 0  # by other processes during this run

    @property
    def reused(self) -> int:
        """Rows that were in the store already."""
        return self.wanted - self.scored - self.elsewhere


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """The rows a row signal is asked for, and what the store holds of them.

    Arrays [m] have one entry for each distinct key, ascending: copies of a row share one. Arrays
    [r] have one for each row.
    """

    signal: RowSignal  # as the store knows it: no model is left to be trained
    label: str
    fingerprint: str
    keys: np.ndarray  # DIGEST [m]
    first: np.ndarray  # int64 [m]: the first position with this key
    copies: np.ndarray  # int64 [m]: rows that share it
    positions: np.ndarray  # int64 [r], ascending
    entry: np.ndarray  # int64 [r]: the entry of each position
    values: dict[str, np.ndarray]  # field -> array [m]; meaningful where stored
    errors: np.ndarray  # object [m], str: why a row has no values; "" where it has
    missing: np.ndarray  # bool [m]: not stored yet, or failed and to be scored again

    @property
    def rows_missing(self) -> int:
        """Rows whose value is not stored; each copy counts."""
        return int(self.copies[self.missing].sum())

    def loaded(self, store: Store) -> ScoringRequest:
        """The same rows with what the store holds now. Raises StoreError if some are still
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
    """(input, field) -> array [n]: the values that a row's key covers beside its digest."""
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
) -> ScoringRequest:
    """Look up what the store holds of a signal.

    Arguments:
        signal: as the store knows it.
        label: its name in messages.
        positions: int64 [r], ascending: the rows that it is asked for.
        table: holds the signal's inputs.
        store: the store.
        retry_errors: rows whose failure is stored count as missing. A failure that only says that
            a file changed during another run always does: the file was opened again since.
    """
    digest = table.numbering.digest[positions]  # [r] DIGEST
    inputs = [array[positions] for array in key_values(signal, table).values()]
    keys, first, entry, copies = np.unique(
        _keys([digest, *inputs]) if signal.inputs() else digest,  # [r] DIGEST
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    fp = fingerprint(signal)
    values, errors, found = store.load(fp, signal.fields, keys)
    missing = ~found | ((errors != "") & retry_errors) | of_another_run(errors)  # [m] bool
    first = positions[first]  # [m] int64: an index into `positions` becomes a position
    return ScoringRequest(
        signal, label, fp, keys, first, copies, positions, entry, values, errors, missing
    )


def of_another_run(errors: np.ndarray) -> np.ndarray:
    """bool [m]: failures that say nothing about the row, only that its image was written to while
    it was scored."""
    return np.fromiter((RowError.parse(e).kind == CHANGED for e in errors), bool, len(errors))


def _keys(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The keys of rows that depend on more than themselves, DIGEST [r]: sha256(digest + input
    values).

    `parts`: [r] each, the digest first.
    """
    table = np.hstack([_as_bytes(p) for p in parts])  # [r, bytes] uint8
    return digests_to_array([hashlib.sha256(row).digest() for row in table])


def image_order(pool: PoolView, pool_rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """An order in which rows with the same image are neighbours, whatever the order of the pool.

    By the hash of the first image, digest, key. Read from the pool's index: no row is parsed.

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

    `values`: field -> array [n], changed in place; `positions`: int64 [r], rows with a value.
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
