"""One job for any number of processes: which of the rows that are missing this one scores next.

Work is handed out in blocks, large at first and small at the end, so that all processes end
together. What a process did not finish before it died is claimed by another. Reads the store's
parts; writes claims.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np

from thresher.engine import local
from thresher.storage.claims import Claims
from thresher.storage.columns import Store
from thresher.types import Field

LOOK_EVERY = 0.2  # seconds between two looks while others have the rest
SHARES = 64  # the smallest block is this part of a job, between the next two
SMALLEST, SMALL = 8, 128


class Share:
    """Entries 0 … e-1 that are missing in all of some columns; a context manager that gives back
    what it claimed.

    `columns`: (fingerprint, fields) of each. `keys`: DIGEST [e], in the order in which they are to
    be scored. `failed`: bool [e], entries whose stored failure is to be tried again: another
    process has done such a one when it succeeded. `waiting(rows)` is told when others have all that
    is left.
    """

    def __init__(
        self,
        store: Store,
        columns: Sequence[tuple[str, Sequence[Field]]],
        keys: np.ndarray,
        failed: np.ndarray,
        waiting: Callable[[int], None],
    ) -> None:
        self.store, self.columns, self.keys, self.failed, self.waiting = (
            store,
            columns,
            keys,
            failed,
            waiting,
        )
        self.mine = np.zeros(len(keys), bool)  # scored by this process
        self.done = np.zeros(len(keys), bool)
        self._open = np.zeros(len(keys), bool)  # claimed by this process and not in the store yet
        self._claims = Claims(store.root, [fp for fp, _ in columns])
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        self._stored = np.zeros((len(columns), len(keys)), bool)
        self._seen: list[set[str]] = [set() for _ in columns]
        self._said = False

    def __enter__(self) -> Share:
        self._look()
        self._claims.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._claims.__exit__()

    @property
    def elsewhere(self) -> np.ndarray:
        """bool [e]: scored by other processes meanwhile."""
        return self.done & ~self.mine

    def next(self, ready: Callable[[], object], flush: Callable[[], None]) -> np.ndarray | None:
        """Entries to score now, int64 [b], ascending; None when all are done. Waits while others
        have the rest.

        `ready()` is called before something is claimed: a model that takes minutes to open is
        opened then. `flush()` stores what was scored and tells `finished`: nobody waits for rows
        that only have to be written.
        """
        while True:
            self._look()
            if self.done.all():
                return None
            if not self._free()[0].any():
                flush()
                if self.done.all():
                    return None
            if self._free()[0].any():
                ready()
                block = self._claim()
                if len(block):
                    self._said = False
                    return block
            else:
                self._wait()

    def finished(self, entries: np.ndarray) -> None:
        """These entries, some of those that `next` gave, are in the store."""
        self.mine[entries] = self.done[entries] = True
        self._open[entries] = False
        if not self._open.any():
            self._claims.claim(self.keys[:0])

    def _claim(self) -> np.ndarray:
        with self._claims.exclusive():
            # before the parts: who gives a claim back has stored its rows
            free, sharers = self._free()
            self._look()
            entries = np.flatnonzero(free & ~self.done)
            smallest = min(max(len(self.keys) // SHARES, SMALLEST), SMALL)
            share = len(entries) // 2 if sharers == 0 else len(entries) // (2 * (sharers + 1))
            block = entries[: min(max(share, smallest), local.ROWS_PER_CALL)]
            self._open[block] = True
            self._claims.claim(self.keys[self._open])
            return block

    def _free(self) -> tuple[np.ndarray, int]:
        """bool [e]: neither done nor claimed by another; and how many others there are."""
        claimed = self._claims.other_claims()
        free = ~self.done & ~self._open
        for keys in claimed:
            free[self._entries(keys)] = False
        return free, len(claimed)

    def _entries(self, keys: np.ndarray) -> np.ndarray:
        """The entries that have one of these keys."""
        if not len(keys) or not len(self.keys):
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        found: np.ndarray = self._order[at[self._sorted[at] == keys]]
        return found

    def _look(self) -> None:
        """What was stored since the last look."""
        for i, (fp, _) in enumerate(self.columns):
            for keys, fine in self.store.new_keys(fp, self._seen[i]):
                entries = self._entries(keys)
                self._stored[i, entries[~self.failed[entries]]] = True
                self._stored[i, self._entries(keys[fine])] = True
        self.done |= self._stored.all(axis=0)

    def _wait(self) -> None:
        if not self._said:
            self.waiting(int((~self.done).sum()))
        self._said = True
        time.sleep(LOOK_EVERY)
