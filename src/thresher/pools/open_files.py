"""The files of an open pool: opened on demand, a limited number at a time, and checked for
changes."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import BinaryIO

from thresher.errors import PoolError
from thresher.pools import files
from thresher.pools.files import FileState
from thresher.pools.pool_file import PoolFile
from thresher.pools.readers import RecordReader
from thresher.storage.hashing import Stamp

MAX_OPEN = 64  # files of one pool


class OpenFiles:
    """The pool's files, opened on demand; at most MAX_OPEN at a time.

    Arguments:
        pool_files: the files.
        states: of the files when they were read; a file that differs is refused.
    """

    def __init__(self, pool_files: Sequence[PoolFile], states: Sequence[FileState]) -> None:
        self.pool_files, self.states = pool_files, list(states)
        self.lock = threading.Lock()
        self.open: OrderedDict[int, tuple[BinaryIO, RecordReader, bool]] = OrderedDict()
        weakref.finalize(self, _close, self.open)

    def reader(self, number: int) -> RecordReader:
        """The reader of a file. Raises PoolError if the file is missing or changed."""
        with self.lock:
            entry = self.open.get(number)
            if entry is None:
                part = self.pool_files[number]
                if files.file_stamp(part.uri) != self.states[number].stamp:
                    now = self.states[number].if_unchanged(part.uri)
                    if now is None:
                        raise changed_error(part.uri)
                    self.states[number] = now
                file = files.open_file(part.uri)
                watched = (
                    not files.is_remote(part.uri) and _open_stamp(file) == self.states[number].stamp
                )
                entry = (file, part.reader(file), watched)
                self.open[number] = entry
                if len(self.open) > MAX_OPEN:
                    self.open.popitem(last=False)  # closed when unreferenced
            self.open.move_to_end(number)
            return entry[1]

    def check(self) -> None:
        """Raises PoolError if an open file was written to, even if its times were restored."""
        with self.lock:
            for number, (file, _, watched) in self.open.items():
                if watched and (now := _open_stamp(file)) != self.states[number].stamp:
                    if now[:2] != self.states[number].stamp[:2]:
                        raise changed_error(self.pool_files[number].uri)
                    # renamed, linked, or changed with the old times restored
                    state = files.read_open_state(file)
                    if state.content != self.states[number].content:
                        raise changed_error(self.pool_files[number].uri)
                    self.states[number] = state


def changed_error(path: str) -> PoolError:
    return PoolError(
        f"{path} changed since it was opened. Open it again when nothing writes to it."
    )


def _close(opened: OrderedDict[int, tuple[BinaryIO, RecordReader, bool]]) -> None:
    for file, _, _ in opened.values():
        file.close()


def _open_stamp(file: BinaryIO) -> list[int]:
    return list(Stamp.of(os.fstat(file.fileno())))
