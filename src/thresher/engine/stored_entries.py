"""Which rows of a pass are stored in all of its columns, read from the store as they appear there.
Reads the store only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thresher.storage.columns import Store
from thresher.types import Field


class StoredEntries:
    """Follows e rows, numbered 0 … e-1 ("entries"), of some columns.

    Attributes:
        done: bool [e], stored in all columns.

    Arguments:
        store: holds the columns.
        columns: (fingerprint, fields) of each.
        keys: DIGEST [e].
        retried: bool [e], entries with a stored failure that are to be scored again: done once they
            are stored without one, or with one of the same command.
        since: when the command began, `time.time_ns()`: a failure that was written later is one of
            the same command, whichever process tried the row.
    """

    def __init__(
        self,
        store: Store,
        columns: Sequence[tuple[str, Sequence[Field]]],
        keys: np.ndarray,
        retried: np.ndarray,
        since: int,
    ) -> None:
        self.store, self.columns, self.retried, self.since = store, columns, retried, since
        self.done = np.zeros(len(keys), bool)  # [e]
        self._order = np.argsort(keys, kind="stable")  # [e] int64
        self._sorted = keys[self._order]  # [e] DIGEST
        self._stored = np.zeros((len(columns), len(keys)), bool)  # [c, e]
        self._seen: list[set[str]] = [set() for _ in columns]  # parts that were read

    def refresh(self) -> None:
        """Read what was stored since the last time."""
        for i, (fp, _) in enumerate(self.columns):
            for part in self.store.new_keys(fp, self._seen[i]):
                entries = self.entries(part.keys)
                self._stored[i, entries[~self.retried[entries]]] = True
                tried = part.succeeded | (part.written >= self.since)  # [k] bool
                self._stored[i, self.entries(part.keys[tried])] = True
        self.done |= self._stored.all(axis=0)

    def entries(self, keys: np.ndarray) -> np.ndarray:
        """The entries that have one of these keys (DIGEST [k]), int64 [f]; f <= k."""
        if not len(keys) or not len(self._sorted):
            return np.zeros(0, np.int64)
        place = np.searchsorted(self._sorted, keys)  # [k] int64
        place = np.minimum(place, len(self._sorted) - 1)
        found: np.ndarray = self._order[place[self._sorted[place] == keys]]
        return found
