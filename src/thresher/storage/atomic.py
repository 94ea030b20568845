"""Atomic writes: a file is written under a temporary name in the same folder, then renamed.

Every temporary file or folder of thresher is called `.tmp-<host>-<pid>-<random>`: short, so that
the target's name may use all 255 bytes, and with the writer's process id, so that `remove_stale`
can delete what a killed process left behind. `host` identifies the machine and its PID namespace.
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
STALE_AFTER = 3600.0  # seconds; for temporary files whose writer cannot be checked
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_TEMPORARY_NAME = re.compile(r"\.tmp-(?:([0-9a-f]{8})-(\d+)-[0-9a-f]{16}|[0-9a-f]{32})")
NAME_BYTES = 255  # longest file name on common file systems


def temporary_path(folder: Path) -> Path:
    """Return an unused temporary path in `folder`, without creating it."""
    return folder / f"{PREFIX}{host_id()}-{os.getpid()}-{uuid.uuid4().hex[:16]}"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` when the block ends without an error.

    The content is flushed to disk before the rename: a kill leaves either the old content or all
    of the new. Missing parent folders are created. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path.parent)
    try:
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # do not mask the original error
            temporary.unlink(missing_ok=True)


def write_bytes(
    path: Path, data: bytes, advice: str = " Free some space and run the same command again."
) -> None:
    """Write `data` to `path` atomically.

    Arguments:
        path: the file to write; missing parent folders are created.
        data: its content.
        advice: end of the message of an error.

    Raises StoreError (disk full, no permission) whose message ends with `advice`.
    """
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
    except OSError as e:
        raise StoreError(f"{path} cannot be written: {e.strerror or e}.{advice}") from e


def fsync(path: Path) -> None:
    """Flush a file's content to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(folder: Path, *, locked: bool = False) -> None:
    """Delete temporary files and folders whose writer is dead. Never raises: what cannot be deleted
    now is left to the next run.

    Arguments:
        folder: where they are.
        locked: whether this process holds the folder's lock, so that no other process writes here.
            Otherwise a writer on this machine is looked up by process id, and files of other
            machines (or earlier versions) are deleted after `STALE_AFTER` seconds.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.startswith(PREFIX)]
    except OSError:
        return
    for name in sorted(names):
        if is_orphan(folder / name, locked):
            with contextlib.suppress(OSError):
                remove(folder / name)


def is_orphan(path: Path, locked: bool = False) -> bool:
    """Whether a temporary file or folder of thresher was left by a dead process. Never raises.

    Arguments:
        path: a temporary file or folder.
        locked: as for `remove_stale`.
    """
    match = _TEMPORARY_NAME.fullmatch(path.name)
    if match is None:
        return False  # created by another program
    if match[1] is not None:
        if int(match[2]) == os.getpid() and match[1] == host_id():
            return False  # another thread of this process
        if locked:
            return True
        if match[1] == host_id() and os.name == "posix":
            return not is_running(int(match[2]))
    try:
        return time.time() - path.lstat().st_mtime > STALE_AFTER
    except OSError:
        return False  # another process deleted it


def remove(path: Path) -> None:
    """Delete a file or a whole folder. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def host_id() -> str:
    """Eight hexadecimal digits, equal for processes that see the same process ids."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    key = f"{platform.node()}\0{namespace}".encode("utf-8", "replace")
    return hashlib.sha256(key).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """Whether a process of this machine runs.

    Arguments:
        pid: its process id.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # it runs as another user
    return True
