"""Rows that a person pinned (always kept) or banned (never kept): two files that `thresher select
--keep / --drop` takes.

    DIR/view/keep.jsonl    one {"row": 17, "id": "a7", "digest": "…"} a line: the digest finds the
                           row in any order of the file
    DIR/view/drop.jsonl

Writes these two, aside and then renamed. Rows that the selection itself kept or dropped by file are
taken over at the first opening, so that one pair of files says it all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError
from thresher.mixture.row_lists import WRITER, rows_in_file
from thresher.storage.atomic import remove_stale, write_bytes
from thresher.types import digests_to_bytes

if TYPE_CHECKING:
    from thresher.pools import Pool

FOLDER, KEEP, DROP = "view", "keep.jsonl", "drop.jsonl"


class Pins:
    """The pinned and banned rows of one selection, from the viewer's files or, without these, from
    those that the selection was made with.

    Its arrays `keep` and `drop`, bool [n], are replaced and never written to. Nothing is on disk
    before the first change.

    Arguments:
        folder: of the selection.
        pool: of the selection.
        keep, drop: the files that it was made with; None: none.

    Raises ConfigError.
    """

    def __init__(
        self, folder: Path, pool: Pool, keep: str | None = None, drop: str | None = None
    ) -> None:
        self.folder, self.pool = folder / FOLDER, pool
        self.keep = self._read(KEEP, "keep", keep)
        self.drop = self._read(DROP, "drop", drop)
        if (both := self.keep & self.drop).any():
            raise ConfigError(
                f"{self.path(KEEP)} and {self.path(DROP)} both list row "
                f"{int(np.flatnonzero(both)[0])}. Remove it from one of them."
            )

    def path(self, name: str) -> Path:
        return self.folder / name

    def _read(self, name: str, option: str, first: str | None) -> np.ndarray:
        path = self.path(name)
        if path.exists():
            return (
                rows_in_file(str(path), option, self.pool)
                if path.stat().st_size
                else np.zeros(len(self.pool), bool)
            )
        return (
            np.zeros(len(self.pool), bool)
            if first is None
            else rows_in_file(first, option, self.pool)
        )

    def changed(self, rows: np.ndarray, state: str) -> tuple[np.ndarray, np.ndarray]:
        """(keep, drop), bool [n], after a change; nothing is changed yet.

        Arguments:
            rows: int64 [m], pool rows.
            state: what they become: "pinned", "banned" or "free".

        Raises ConfigError if a row to pin is not a record.
        """
        keep, drop = self.keep.copy(), self.drop.copy()
        keep[rows], drop[rows] = state == "pinned", state == "banned"
        if state == "pinned" and (bad := self.pool.unreadable[rows]).any():
            row = int(rows[bad][0])
            raise ConfigError(
                f"Row {row:,} cannot be kept: it is not a record ({self.pool.problems[row]})."
            )
        return keep, drop

    def save(self, keep: np.ndarray, drop: np.ndarray) -> None:
        """Make these the pins, on disk first. Raises StoreError.

        Arguments:
            keep, drop: bool [n], pinned and banned rows; no row is in both.
        """
        both = [(KEEP, keep, self.keep), (DROP, drop, self.drop)]
        both.sort(
            key=lambda item: not (item[2] & ~item[1]).any()
        )  # what loses rows first: a kill leaves no row in both
        for name, now, before in both:
            if not np.array_equal(now, before) or (now.any() and not self.path(name).exists()):
                self.write(now, self.path(name))
        self.keep, self.drop = keep, drop

    def write(self, mask: np.ndarray, path: Path) -> None:
        """A file that names rows, by row number. Raises StoreError.

        Arguments:
            mask: bool [n], the rows.
            path: of the file, which is replaced; missing folders are created.
        """
        rows = np.flatnonzero(mask)
        digests = digests_to_bytes(self.pool.digest[rows])
        lines = [
            json.dumps({"row": row, "id": id_, "digest": digest.hex(), WRITER: "view"})
            for row, id_, digest in zip(rows.tolist(), self.pool.ids(rows), digests, strict=True)
        ]
        text = "".join(line + "\n" for line in lines)
        remove_stale(path.parent)
        write_bytes(path, text.encode("ascii"), advice=" The pins stay as they were.")
