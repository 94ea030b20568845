"""Files that are complete or absent: written under a temporary name in the same folder, then renamed.

Every temporary file or folder of thresher is called `.tmp-<place>-<pid>-<random>`: short, so that
a target's name may use all 255 bytes, and telling who writes it, so that `sweep` can remove what a
killed process left behind. `place` stands for the machine and its process numbers.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from thresher.errors import StoreError

PREFIX = ".tmp-"
STALE_AFTER = 3600.0  # seconds; for temporary files whose writer cannot be asked
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_OURS = re.compile(r"\.tmp-(?:([0-9a-f]{8})-(\d+)-[0-9a-f]{16}|[0-9a-f]{32})")
NAME_BYTES = 255  # of a file name, on all usual file systems


def temporary(folder: Path) -> Path:
    """A fresh temporary name in `folder`; nothing is created."""
    return folder / f"{PREFIX}{_place()}-{os.getpid()}-{uuid.uuid4().hex[:16]}"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; it takes the place of `path` when the block ends well.

    The content is flushed to the disk before the rename. A kill leaves what `path` was before, or
    all of the new content. Makes missing parent folders. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = temporary(path.parent)
    try:
        yield aside
        flush(aside)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):  # never hide the error that brought us here
            aside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, advice: str = " Make room and run the same command again.") -> None:
    """Replace `path` by `data`. Raises StoreError (disk full, no permission) that ends in `advice`."""
    try:
        with replacing(path) as aside:
            aside.write_bytes(data)
    except OSError as e:
        raise StoreError(f"{path} cannot be written: {e.strerror or e}.{advice}") from e


def flush(path: Path) -> None:
    """Have the system write the content of a file to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, *, locked: bool = False) -> None:
    """Remove temporary files and folders whose writer is dead.

    `locked`: this process holds the folder's lock, so that nobody else writes here. Otherwise a
    writer on this machine is looked up by its process number, and what another machine (or an
    earlier version) left goes after `STALE_AFTER` seconds. Never raises: what cannot be removed
    now is left to the next run.
    """
    try:
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.name.startswith(PREFIX)]
    except OSError:
        return
    for name in sorted(found):
        if _is_orphan(folder / name, locked):
            with contextlib.suppress(OSError):
                remove(folder / name)


def remove(path: Path) -> None:
    """A file or a whole folder. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _place() -> str:
    """Eight hexadecimal digits: equal for processes that can see each other's process numbers."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()}\0{space}".encode("utf-8", "replace")).hexdigest()[:8]


def _is_orphan(path: Path, locked: bool) -> bool:
    ours = _OURS.fullmatch(path.name)
    if ours is None:
        return False  # another program's
    if ours[1] is not None:
        if int(ours[2]) == os.getpid() and ours[1] == _place():
            return False  # another thread of this process
        if locked:
            return True
        if ours[1] == _place() and os.name == "posix":
            return not _is_alive(int(ours[2]))
    try:
        return time.time() - path.lstat().st_mtime > STALE_AFTER
    except OSError:
        return False  # another process swept it


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # it is there, and somebody else's
    return True
