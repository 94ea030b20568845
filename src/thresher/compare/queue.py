"""Which missing cell this process computes next, for any number of processes that share the folder
of a comparison.

A process claims the cell that it computes and, once they are known, the rows that it trains on, so
that no model is trained twice where two methods select the same rows. Claims are those of a store
(`storage.claims`), in `out/cells/claims`: a cell of a process that died is free again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from thresher.compare.cell_files import delete_cell, is_published, read_cell
from thresher.compare.cells import Cell
from thresher.storage.atomic import temporary_path
from thresher.storage.checksums import CorruptFile
from thresher.storage.claims import Claims
from thresher.types import DIGEST, digests_to_bytes

POLL_SECONDS = 0.5


class CellQueue:
    """The cells of a comparison. A context manager: the claim is released at its end.

    Arguments:
        out: folder of the comparison.
        cells: all of them, in the order in which they are to be computed.
        damaged: called with a cell that is damaged and will be computed again, and the reason.
        waiting: called again and again, with the number of missing cells, while other processes
            compute all of them.
        total: number of missing cells, for numbering; None: of those that are missing now.
    """

    def __init__(
        self,
        out: Path,
        cells: Sequence[Cell],
        damaged: Callable[[Cell, CorruptFile], None],
        waiting: Callable[[int], None],
        total: int | None = None,
    ) -> None:
        self._out, self._cells = out, cells
        self._damaged, self._waiting = damaged, waiting
        self._claims = Claims(out / "cells", [cell.fingerprint for cell in cells])
        self._put_off: dict[str, bytes] = {}  # fingerprint -> key of the training it waits for
        self._total = total

    def __enter__(self) -> CellQueue:
        self._claims.__enter__()
        with self._claims.exclusive():
            for cell in self._cells:
                try:
                    read_cell(self._out, cell)
                except CorruptFile as e:
                    self._damaged(cell, e)
                    delete_cell(self._out, cell)
        if self._total is None:
            self._total = len(self._missing())
        return self

    def __exit__(self, *_: object) -> None:
        self._claims.__exit__()

    @property
    def total(self) -> int:
        """Number of cells that were missing at first."""
        assert self._total is not None, "known inside the block"
        return self._total

    def next(self) -> tuple[int, Cell] | None:
        """Claim a missing cell that no other process computes: its number, from 1, and the cell.
        None when all are finished; waits while others compute all the rest."""
        while True:
            if self._free():
                with self._claims.exclusive():
                    self._see_latest()
                    if free := self._free():
                        self._claim(_cell_key(free[0]))
                        return self.total - len(free) + 1, free[0]
            missing = len(self._missing())
            if not missing:
                return None
            self._waiting(missing)
            time.sleep(POLL_SECONDS)

    def claim_training(self, cell: Cell, key: bytes) -> bool:
        """Also claim the training of a claimed cell. If another process claims it, the cell is put
        off until that one has ended, and False is returned: call `next` again.

        Arguments:
            cell: what `next` gave.
            key: of the training, 32 bytes; equal for trainings that give the same model.
        """
        with self._claims.exclusive():
            if key in self._claimed():
                self._put_off[cell.fingerprint] = key
                self._claim()
                return False
            self._claim(_cell_key(cell), key)
            return True

    def publish(self, cell: Cell, write: Callable[[], None]) -> None:
        """Write a finished cell, unless another process has: one that took this process for dead.

        Arguments:
            cell: what `next` gave.
            write: writes its files.
        """
        with self._claims.exclusive():
            if not is_published(self._out, cell):
                write()

    def _claim(self, *keys: bytes) -> None:
        self._claims.claim(np.frombuffer(b"".join(keys), DIGEST))

    def _claimed(self) -> set[bytes]:
        """Keys that other live processes claim."""
        return {key for keys in self._claims.other_claims() for key in digests_to_bytes(keys)}

    def _missing(self) -> list[Cell]:
        return [cell for cell in self._cells if not is_published(self._out, cell)]

    def _free(self) -> list[Cell]:
        # Claims are read before the files: a process writes its cell before it releases it.
        claimed = self._claimed()
        return [
            cell
            for cell in self._missing()
            if _cell_key(cell) not in claimed and self._put_off.get(cell.fingerprint) not in claimed
        ]

    def _see_latest(self) -> None:
        """Make a network file system show the files that other machines have written: a client
        keeps what it knows of a folder for up to a minute, unless it changes the folder itself."""
        probe = temporary_path(self._out / "cells")
        with contextlib.suppress(OSError):
            probe.touch()
            probe.unlink()


def _cell_key(cell: Cell) -> bytes:
    return hashlib.sha256(cell.fingerprint.encode()).digest()
