"""A work queue for any number of processes on one store: which missing rows this one scores next.

Rows are claimed in blocks, large at first and small at the end, so that all processes finish at
about the same time. What counts is the cost of a block (tokens), not its number of rows. Unfinished
rows of a process that died are claimed by another. Reads the store's parts; writes claims.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np

from thresher.engine import local
from thresher.engine.stored_entries import StoredEntries
from thresher.storage.columns import Store
from thresher.types import Field

# rows of mean cost that the smallest block costs: a 64th of all rows, at least 8, at most 128
BLOCKS, MIN_BLOCK, MAX_MIN_BLOCK = 64, 8, 128


class WorkQueue:
    """A queue of e rows, numbered 0 … e-1 ("entries"), that are missing in all of some columns.

    A context manager: claims are released at its end.

    Arguments:
        store: holds the columns.
        columns: (fingerprint, fields) of each.
        keys: DIGEST [e], in the order in which they are to be scored.
        retried: bool [e], entries with a stored failure that are to be scored again, once.
        since: when the command began, `time.time_ns()`: a failure that another process stored later
            is not tried again.
        waiting: called with the number of rows left when other processes have claimed them all.
        processes: number of processes that work on these rows or soon will; there may be more.
        costs: float64 [e], > 0: what each row costs, in any unit; None: all the same.
    """

    def __init__(
        self,
        store: Store,
        columns: Sequence[tuple[str, Sequence[Field]]],
        keys: np.ndarray,
        retried: np.ndarray,
        since: int,
        waiting: Callable[[int], None],
        processes: int = 1,
        costs: np.ndarray | None = None,
    ) -> None:
        self.keys, self.waiting, self.processes = keys, waiting, processes
        self._costs = np.ones(len(keys)) if costs is None else costs  # [e] float64
        self.scored_here = np.zeros(len(keys), bool)  # [e]
        self._entries = StoredEntries(store, columns, keys, retried, since)
        self._claimed = np.zeros(len(keys), bool)  # [e]: by this process, and not stored yet
        self._claims = store.claims([fp for fp, _ in columns])
        self._poll_seconds = store.poll_seconds
        self._reported = False  # whether `waiting` was called

    def __enter__(self) -> WorkQueue:
        self._entries.refresh()
        self._claims.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._claims.__exit__()

    @property
    def done(self) -> np.ndarray:
        """bool [e]: stored in all columns."""
        return self._entries.done

    @property
    def elsewhere(self) -> np.ndarray:
        """bool [e]: scored by other processes since the queue was created."""
        return self.done & ~self.scored_here

    def next_block(
        self, ready: Callable[[], object], flush: Callable[[], None]
    ) -> np.ndarray | None:
        """Entries to score next, int64 [b], ascending; None when all are done.

        Waits while other processes score all the rest.

        Arguments:
            ready: called before entries are claimed. It may open a model, which can take minutes.
            flush: called before this process waits. It stores what was scored and calls
                `mark_stored`, so that other processes need not wait for these rows.
        """
        while True:
            self._entries.refresh()
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
                    self._reported = False
                    return block
            else:
                self._wait()

    def mark_stored(self, entries: np.ndarray) -> None:
        """Mark entries (int64 [b]) of the last block as stored."""
        self.scored_here[entries] = self.done[entries] = True
        self._claimed[entries] = False
        if not self._claimed.any():
            self._claims.claim(self.keys[:0])

    def _claim(self) -> np.ndarray:
        with self._claims.exclusive():
            # Claims are read before the store: a process stores its rows before it releases them.
            free, others = self._free()
            self._entries.refresh()
            entries = np.flatnonzero(free & ~self.done)  # [f] int64
            block = entries[: self._block_rows(entries, max(others + 1, self.processes))]
            self._claimed[block] = True
            self._claims.claim(self.keys[self._claimed])
            return block

    def _block_rows(self, entries: np.ndarray, sharing: int) -> int:
        """Rows of the next block: those that cost half of a process's share of the rest.

        Arguments:
            entries: int64 [f], rows that are left, in the order in which they are scored.
            sharing: number of processes that share them.
        """
        if not len(entries):
            return 0
        smallest = min(max(len(self.keys) // BLOCKS, MIN_BLOCK), MAX_MIN_BLOCK)
        spent = np.cumsum(self._costs[entries])  # [f] float64
        cost = max(spent[-1] / (2 * sharing), smallest * self._costs.mean())
        rows = int(np.searchsorted(spent, cost, side="right"))
        return min(max(rows, 1), local.ROWS_PER_CALL)

    def _free(self) -> tuple[np.ndarray, int]:
        """bool [e], entries neither done nor claimed; and the number of other processes."""
        claimed = self._claims.other_claims()
        free = ~self.done & ~self._claimed
        for keys in claimed:
            free[self._entries.entries(keys)] = False
        return free, len(claimed)

    def _wait(self) -> None:
        if not self._reported:
            self.waiting(int((~self.done).sum()))
        self._reported = True
        time.sleep(self._poll_seconds)
