"""One process at a time at a piece of work: an advisory lock on a file.

The system releases the lock when its owner dies, so a killed process blocks nobody. The file is
removed when the lock is released. Touches the lock file and its folder only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import StoreError
from thresher.storage.atomic import sweep

if TYPE_CHECKING:
    from thresher.console.progress import Progress

NAME = ".thresher.lock"  # of the lock of a folder
_held = threading.local()  # .paths: what this thread holds, so that a nested lock does not wait for itself
POLL_SECONDS = 0.25
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def folder_lock(folder: Path, work: str, progress: Progress | None = None) -> Iterator[None]:
    """Run the body as the only writer of `folder`, which must exist.

    What killed writers left there is removed first. `work`: what another owner is doing, as in
    "writes a selection here". Raises StoreError where the lock cannot be taken.
    """
    with file_lock(folder / NAME, work, progress) as held:
        sweep(folder, locked=held)
        yield


@contextmanager
def file_lock(path: Path, work: str, progress: Progress | None = None) -> Iterator[bool]:
    """Run the body while no other process (or thread) holds `path`.

    Where one does, this waits as long as it takes and says so through `progress`. What the body
    would do may be done by then: look again. Gives False where the file system knows no locks
    (some network file systems): the body then runs unprotected, after a warning.
    A thread that holds `path` already goes on. Raises StoreError where the file cannot be made,
    opened or locked.
    """
    mine: set[str] = _held.__dict__.setdefault("paths", set())
    place = os.path.realpath(path)
    if place in mine:
        yield True
        return
    try:
        descriptor = _try(path)
        if descriptor is None:
            if progress is not None:
                progress.say(f"Waiting for another process that {work}; it holds {path}.")
            while (descriptor := _try(path)) is None:
                time.sleep(POLL_SECONDS)
    except OSError as e:
        if e.errno in _UNSUPPORTED:
            if progress is not None:
                progress.say(
                    f"{path.parent} is on a file system without locks ({e.strerror}): make sure "
                    "that only one process writes there."
                )
            _remove(path)
            yield False
            return
        raise StoreError(
            f"{path} cannot be locked: {e.strerror or e}. No other process need hold it: the file "
            "or its folder does not let this user write. Give a folder that you may write to."
        ) from e
    mine.add(place)
    try:
        yield True
    finally:
        mine.discard(place)
        _release(path, descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try(path: Path) -> int | None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        except PermissionError:
            if path.exists():
                return None  # its owner is about to remove it
            raise
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def _release(path: Path, descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        os.close(descriptor)
        _remove(path)

else:
    import fcntl

    def _try(path: Path) -> int | None:
        """A descriptor that holds the lock; None where another does. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine, there = os.fstat(descriptor), os.stat(path)
        except (BlockingIOError, FileNotFoundError):  # held, or removed by an owner who is done
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            os.close(descriptor)  # the owner before us removed the file that we locked
            return None
        return descriptor

    def _release(path: Path, descriptor: int) -> None:
        _remove(path)  # while it is held: who opened it meanwhile sees that it is another file
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
