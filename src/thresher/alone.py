"""One process at a time at a piece of work: an advisory lock on a file, which the system lets go when its owner dies.

`flock` on the file's own inode, so a killed owner blocks nobody and the file may stay where it is. Touches that file and its folder only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from thresher.errors import StoreError

if TYPE_CHECKING:
    from thresher.progress import Progress

LOOK_EVERY = 0.25  # seconds between two tries while another process is at it


@contextmanager
def alone(path: Path, work: str, progress: Progress | None = None) -> Iterator[None]:
    """The body runs while no other process (or thread) holds `path`.

    Where one does, this waits as long as it takes and tells `progress` so. `work`: what the other is doing, as in "trains this
    model". What the body would do may be done by then: look again. Raises StoreError where the file cannot be made.
    """
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress is not None:
                progress.say(f"Waiting for another process that {work}; it holds {path}.")
            lock.acquire(poll_interval=LOOK_EVERY)
    except OSError as e:
        raise StoreError(
            f"{path} cannot be locked: {e.strerror or e}. Give a store in a folder that you may write to."
        ) from e
    try:
        yield
    finally:
        lock.release()
