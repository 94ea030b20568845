"""The files of an open pool: opened when they are needed, a limited number at a time, and watched
for changes."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import BinaryIO

from thresher.errors import PoolError
from thresher.pools import files
from thresher.pools.files import Kept
from thresher.pools.pool_file import Part
from thresher.pools.readers import Rows
from thresher.storage.hashing import Stamp

KEPT_OPEN = 64  # files of one pool


class Handles:
    """The pool's files, opened when they are needed; at most KEPT_OPEN at a time."""

    def __init__(self, parts: Sequence[Part], kept: Sequence[Kept]) -> None:
        self.parts, self.kept = parts, list(kept)
        self.lock = threading.Lock()
        self.open: OrderedDict[int, tuple[BinaryIO, Rows, bool]] = OrderedDict()
        weakref.finalize(self, _close, self.open)

    def rows(self, number: int) -> Rows:
        """The reader of a file. Raises PoolError where it is gone or another one."""
        with self.lock:
            known = self.open.get(number)
            if known is None:
                part = self.parts[number]
                if files.stamp(part.uri) != self.kept[number].stamp:
                    now = self.kept[number].still(part.uri)
                    if now is None:
                        raise changed(part.uri)
                    self.kept[number] = now
                file = files.open_file(part.uri)
                plain = not files.is_remote(part.uri) and _stamp(file) == self.kept[number].stamp
                known = (file, part.rows(file), plain)
                self.open[number] = known
                if len(self.open) > KEPT_OPEN:
                    self.open.popitem(last=False)  # closed when nobody reads it any more
            self.open.move_to_end(number)
            return known[1]

    def check(self) -> None:
        """Raises PoolError where a file that is open was written to, whatever its times say."""
        with self.lock:
            for number, (file, _, plain) in self.open.items():
                if plain and (now := _stamp(file)) != self.kept[number].stamp:
                    if now[:2] != self.kept[number].stamp[:2]:
                        raise changed(self.parts[number].uri)
                    # renamed, linked, or written to with the old time restored
                    found = files.keep_open(file)
                    if found.content != self.kept[number].content:
                        raise changed(self.parts[number].uri)
                    self.kept[number] = found


def changed(path: str) -> PoolError:
    return PoolError(
        f"{path} changed since it was opened. Open it again when nothing writes to it."
    )


def _close(opened: OrderedDict[int, tuple[BinaryIO, Rows, bool]]) -> None:
    for file, _, _ in opened.values():
        file.close()


def _stamp(file: BinaryIO) -> list[int]:
    return list(Stamp.of(os.fstat(file.fileno())))
