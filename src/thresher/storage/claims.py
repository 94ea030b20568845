"""Which keys of a column are being scored at this moment, and by whom, so that several processes share one job.

    root/claims/<id>.claim   what one process has claimed: a line of JSON (host, process, fingerprints), then 32 bytes a key
    root/claims/<id>.lock    locked by that process for as long as it lives; the system lets go when it dies
    root/claims/all.lock     held for the moments in which claims are read and made

On one machine the lock says whether a process lives. Across machines, and where a file system has no locks, the claim's
own time does, which its owner renews. A claim that is wrongly taken for dead costs a row that is scored twice, no more.
Touches the folder `claims` only.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from thresher.errors import StoreError
from thresher.types import DIGEST

HEARTBEAT = 10.0  # seconds between two renewals
DEAD_AFTER = 120.0  # seconds without renewal, where no lock tells
STUCK_AFTER = 1800.0  # seconds without renewal, although the lock is held: a stopped process
HELD_AT_MOST = 60.0  # seconds to wait for all.lock before going on without it


class Claims:
    """The claims of one process on rows of some columns; a context manager. Raises StoreError where it cannot write."""

    def __init__(self, root: Path, fingerprints: Sequence[str]) -> None:
        self.folder = root / "claims"
        self.fingerprints = frozenset(fingerprints)
        self.name = uuid.uuid4().hex
        self.file = self.folder / f"{self.name}.claim"
        self._own = FileLock(self._lock_of(self.file))
        self._all = FileLock(self.folder / "all.lock")
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._renew, name="thresher-claims", daemon=True)

    def __enter__(self) -> Claims:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError, NotImplementedError, Timeout):  # no locks here: renewals tell
                self._own.acquire(timeout=0)
            self.claim(np.zeros(0, DIGEST))
        except OSError as error:
            raise StoreError(
                f"The store's folder {self.folder} cannot be written to: {error.strerror or error}."
            ) from error
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError, StoreError), self.alone():
            self.file.unlink(missing_ok=True)
            self._own.release()
            self._lock_of(self.file).unlink(missing_ok=True)
        self._own.release()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process reads or makes claims meanwhile. Where locks do not work, that is not sure, which is harmless."""
        held = False
        try:
            self._all.acquire(timeout=HELD_AT_MOST, poll_interval=0.01)
            held = True
        except (Timeout, NotImplementedError, OSError):
            held = False
        try:
            yield
        finally:
            if held:
                self._all.release()

    def claim(self, keys: np.ndarray) -> None:
        """These keys (DIGEST [m]) and no others; none: the process waits, or has finished a block."""
        head = {"host": _host(), "process": os.getpid(), "fingerprints": sorted(self.fingerprints)}
        body = np.ascontiguousarray(keys, DIGEST).tobytes()
        try:
            self.file.write_bytes(json.dumps(head).encode() + b"\n" + body)
        except OSError as error:
            raise StoreError(f"{self.file} cannot be written: {error.strerror or error}.") from error

    def others(self) -> list[np.ndarray]:
        """DIGEST [m] for each other living process that has to do with these columns, [0] where it claims nothing now.

        Claims of processes that ended without taking them back are removed. To be called while the lock is held.
        """
        out = []
        now = self._now()
        for file in sorted(self.folder.glob("*.claim")):
            if file == self.file:
                continue
            try:
                head, _, body = file.read_bytes().partition(b"\n")
                told = json.loads(head)
                age = now - file.stat().st_mtime
                columns, host = frozenset(told["fingerprints"]), told["host"]
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError):
                columns, host, body, age = self.fingerprints, "", b"", now - _time_of(file)  # cut off by a kill
            if not self._lives(file, host, age):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
                    self._lock_of(file).unlink(missing_ok=True)
            elif columns & self.fingerprints:
                out.append(np.frombuffer(body[: len(body) // 32 * 32], DIGEST))
        return out

    def _lives(self, file: Path, host: str, age: float) -> bool:
        if host and host != _host():
            return age < DEAD_AFTER
        lock = FileLock(self._lock_of(file))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return age < STUCK_AFTER
        except (OSError, NotImplementedError):
            return age < DEAD_AFTER
        lock.release()
        return False

    def _lock_of(self, file: Path) -> Path:
        return file.with_suffix(".lock")

    def _now(self) -> float:
        """The time by the clock of the file system, which need not be ours."""
        try:
            os.utime(self.file)
            return self.file.stat().st_mtime
        except OSError:
            return _time_of(self.folder)

    def _renew(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(self.file)


def _time_of(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _host() -> str:
    """This machine since it was started: locks of a former life are gone."""
    try:
        booted = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        booted = ""
    return f"{socket.gethostname()} {booted}"
