"""Stored columns of pool signals. A column is identified by the signal and the set of rows.

Reads and writes the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from thresher.fingerprint import fingerprint
from thresher.storage.columns import Store
from thresher.types import Field, Signal, StoredPoolSignal


@dataclass(frozen=True)
class PoolColumn:
    """The identity of a pool signal's values for one set of rows."""

    signal: StoredPoolSignal
    rows: str
    """"sha256:…" over the digests of the rows, sorted; copies count."""

    kind: ClassVar[str] = "pool_column"
    version: ClassVar[int] = 1

    @classmethod
    def of(cls, signal: StoredPoolSignal, digest: np.ndarray) -> PoolColumn:
        """The column of m rows.

        Arguments:
            signal: the signal that the values are of.
            digest: DIGEST [m], sorted.
        """
        content = np.ascontiguousarray(digest).tobytes()
        return cls(signal, "sha256:" + hashlib.sha256(content).hexdigest())

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.signal.fields

    def inputs(self) -> Mapping[str, StoredPoolSignal]:
        """None: what the values depend on is in `signal` and `rows`."""
        return {}

    def load(self, digest: np.ndarray, store: Store) -> dict[str, np.ndarray] | None:
        """The stored values, field -> array [m]; None if they are not stored.

        Arguments:
            digest: DIGEST [m], sorted: the rows of the column.
            store: where it is looked up.
        """
        values, _, found = store.load(fingerprint(self), self.fields, digest)
        return values if len(digest) and found.all() else None

    def save(self, digest: np.ndarray, values: Mapping[str, np.ndarray], store: Store) -> None:
        """Store the values.

        Arguments:
            digest: DIGEST [m], sorted: the rows of the column.
            values: field -> array [m].
            store: where they are written.
        """
        keys, first = np.unique(digest, return_index=True)  # [k] DIGEST, [k] int64
        of_key = {f.name: np.asarray(values[f.name])[first] for f in self.fields}
        fp = store.register(cast(Signal, self))  # its fields are an attribute of the object
        store.append(fp, self.fields, keys, of_key, [""] * len(keys))
        store.publish()
