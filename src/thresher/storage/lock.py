"""Advisory file locks: one process at a time.

The system releases the lock when its owner dies, so a killed process blocks nobody. The file is
deleted when the lock is released, and with it the folders that were created for it, if nothing was
written to them. Touches only the lock file and its folder.
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
from thresher.storage.atomic import remove_stale

if TYPE_CHECKING:
    from thresher.console.progress import Progress

NAME = ".thresher.lock"  # lock file of a folder
_held = threading.local()  # .paths: locks of this thread, so that a nested lock does not deadlock
POLL_SECONDS = 0.25
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def folder_lock(folder: Path, work: str, progress: Progress | None = None) -> Iterator[None]:
    """Run the body as the only writer of `folder`; deletes stale temporary files first.

    Arguments:
        folder: created if it is missing, and removed again if the body leaves it empty.
        work: what another owner is doing, for the message, such as "writes a selection here".
        progress: receives a message while waiting.

    Raises StoreError if the lock cannot be acquired.
    """
    with file_lock(folder / NAME, work, progress) as held:
        remove_stale(folder, locked=held)
        yield


@contextmanager
def file_lock(path: Path, work: str, progress: Progress | None = None) -> Iterator[bool]:
    """Run the body while no other process or thread holds the lock at `path`. Reentrant per thread.

    Waits without a limit and reports that through `progress`. Another process may have done the
    work meanwhile: check again inside the body. Yields False if the file system does not support
    locks (some network file systems): the body then runs unprotected, after a warning.

    Arguments:
        path: the lock file; created and deleted, as is its folder if it is missing and stays empty.
        work: what another owner is doing, for the message.
        progress: receives messages.

    Raises StoreError if the file cannot be created, opened or locked.
    """
    held: set[str] = _held.__dict__.setdefault("paths", set())
    key = os.path.realpath(path)
    if key in held:
        yield True
        return
    created: list[Path] = []
    try:
        descriptor = _try_lock_in_folder(path, created)
        if descriptor is None:
            if progress is not None:
                progress.say(f"Waiting for another process that {work}; it holds {path}.")
            while (descriptor := _try_lock_in_folder(path, created)) is None:
                time.sleep(POLL_SECONDS)
    except OSError as e:
        if e.errno in _UNSUPPORTED:
            if progress is not None:
                progress.say(
                    f"{path.parent} is on a file system that does not support locks "
                    f"({e.strerror}). Make sure that only one process writes there."
                )
            _remove(path)
            yield False
            return
        raise StoreError(
            f"{path} cannot be locked: {e.strerror or e}. The file or its folder is not writable "
            "for this user. Give a folder that you may write to."
        ) from e
    held.add(key)
    try:
        yield True
    finally:
        held.discard(key)
        _release(path, descriptor)
        with contextlib.suppress(OSError):  # not empty
            for folder in created:
                folder.rmdir()


def _try_lock_in_folder(path: Path, created: list[Path]) -> int | None:
    """`_try_lock`, after creating missing folders. Adds these to `created`, the innermost first."""
    missing = [folder for folder in path.parents if not os.path.lexists(folder)]
    if len(missing) > len(created):
        created[:] = missing
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _try_lock(path)
    except FileNotFoundError:  # its last owner removed the folder that it had created
        return None


if sys.platform == "win32":
    import msvcrt

    def _try_lock(path: Path) -> int | None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        except PermissionError:
            if path.exists():
                return None  # its owner is about to delete it
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

    def _try_lock(path: Path) -> int | None:
        """A descriptor that holds the lock, or None if another process holds it. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            opened, current = os.fstat(descriptor), os.stat(path)
        except (BlockingIOError, FileNotFoundError):  # held, or deleted by its last owner
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if (opened.st_dev, opened.st_ino) != (current.st_dev, current.st_ino):
            os.close(descriptor)  # its last owner deleted the file that we locked
            return None
        return descriptor

    def _release(path: Path, descriptor: int) -> None:
        _remove(path)  # while it is held: a process that has opened it notices the deletion
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
