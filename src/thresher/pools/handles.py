"""The files of an open pool: opened when they are needed, a limited number at a time, and watched for changes."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, BinaryIO

from thresher.errors import PoolError
from thresher.pools import files
from thresher.pools.parts import Part
from thresher.pools.readers import Rows

KEPT_OPEN = 64  # files of one pool


class Handles:
    """The pool's files, opened when they are needed; at most KEPT_OPEN at a time."""

    def __init__(self, parts: Sequence[Part], stamps: Sequence[list[Any]]) -> None:
        self.parts, self.stamps = parts, stamps
        self.lock = threading.Lock()
        self.open: OrderedDict[int, tuple[BinaryIO, Rows, os.stat_result | None]] = OrderedDict()
        weakref.finalize(self, _close, self.open)

    def rows(self, number: int) -> Rows:
        """The reader of a file. Raises PoolError where it is gone or another one."""
        with self.lock:
            known = self.open.get(number)
            if known is None:
                part = self.parts[number]
                if files.stamp(part.uri) != self.stamps[number]:
                    raise PoolError(f"{part.uri} changed since it was opened. Open it again.")
                file = files.open_file(part.uri)
                about = os.fstat(file.fileno())
                plain = not files.is_remote(part.uri) and _stamp(about) == self.stamps[number]
                known = (file, part.rows(file), about if plain else None)
                self.open[number] = known
                if len(self.open) > KEPT_OPEN:
                    self.open.popitem(last=False)  # closed when nobody reads it any more
            self.open.move_to_end(number)
            return known[1]

    def check(self) -> None:
        """Raises PoolError where a file that is open was written to."""
        with self.lock:
            for number, (file, _, about) in self.open.items():
                if about is not None and _stamp(os.fstat(file.fileno())) != self.stamps[number]:
                    raise PoolError(f"{self.parts[number].uri} changed since it was opened. Open it again.")


def _close(opened: OrderedDict[int, tuple[BinaryIO, Rows, os.stat_result | None]]) -> None:
    for file, _, _ in opened.values():
        file.close()


def _stamp(about: os.stat_result) -> list[int]:
    return [about.st_size, about.st_mtime_ns]
