"""Which keys of a column are being scored now, and by which process, so that processes share work.

    root/claims/<id>.claim   one process's claim: a line of JSON (host, process, fingerprints),
                             then 32 bytes per key
    root/claims/<id>.lock    locked by that process; the system releases it when the process dies
    root/claims/all.lock     held briefly while claims are read and made

On one machine the lock shows whether a process is alive. Across machines, and on file systems
without locks, the claim's modification time does; its owner refreshes it. A claim wrongly taken
for dead costs at most a row that is scored twice. Touches only the folder `claims`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from filelock import FileLock, Timeout

from thresher.errors import StoreError
from thresher.storage.atomic import host_id, is_running
from thresher.types import DIGEST

HEARTBEAT = 10.0  # seconds between heartbeats
DEAD_AFTER = 120.0  # seconds without a heartbeat, where locks cannot be used
STUCK_AFTER = 1800.0  # seconds without a heartbeat while the lock is held: a suspended process
LOCK_TIMEOUT = 60.0  # seconds to wait for all.lock before continuing without it


class RowClaims(Protocol):
    """One process's claims on rows: `Claims`, or those of a store elsewhere.

    `name`: of the claim.
    """

    name: str

    def __enter__(self) -> Any: ...
    def __exit__(self, *_: object) -> None: ...
    def exclusive(self) -> contextlib.AbstractContextManager[None]: ...
    def claim(self, keys: np.ndarray) -> None: ...
    def other_claims(self) -> list[np.ndarray]: ...


class Claims:
    """One process's claims on rows of some columns. A context manager.

    Arguments:
        root: the store's folder, or another one whose work is shared.
        fingerprints: of the columns that are being scored.

    Raises StoreError if the claim cannot be written.
    """

    def __init__(self, root: Path, fingerprints: Sequence[str]) -> None:
        self.folder = root / "claims"
        self.fingerprints = frozenset(fingerprints)
        self.name = uuid.uuid4().hex
        self.file = claim_file(root, self.name)
        self._own = FileLock(_lock_path(self.file))
        self._all = FileLock(self.folder / "all.lock")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._heartbeat, name="thresher-claims", daemon=True)

    def __enter__(self) -> Claims:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError, NotImplementedError, Timeout):  # else: heartbeats
                self._own.acquire(timeout=0)
            self.claim(np.zeros(0, DIGEST))
        except OSError as error:
            raise StoreError(
                f"The folder {self.folder} cannot be written to: {error.strerror or error}."
            ) from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError, StoreError), self.exclusive():
            self.file.unlink(missing_ok=True)
            self._own.release()
            _lock_path(self.file).unlink(missing_ok=True)
        self._own.release()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Run the body while no other process reads or makes claims.

        Not guaranteed where locks do not work; then a row may be scored twice.
        """
        held = False
        try:
            self._all.acquire(timeout=LOCK_TIMEOUT, poll_interval=0.01)
            held = True
        except (Timeout, NotImplementedError, OSError):
            held = False
        try:
            yield
        finally:
            if held:
                self._all.release()

    def claim(self, keys: np.ndarray) -> None:
        """Replace this process's claim by `keys` (DIGEST [m]); an empty array releases all."""
        try:
            self.file.write_bytes(encode(self.fingerprints, keys))
        except OSError as error:
            raise StoreError(
                f"{self.file} cannot be written: {error.strerror or error}."
            ) from error

    def other_claims(self) -> list[np.ndarray]:
        """Keys claimed by each other live process on these columns: a list of DIGEST [m].

        An array is empty if its process claims nothing now. Claims of dead processes are deleted.
        Call inside `exclusive()`.
        """
        claims = []
        now = self._now()
        for file in sorted(self.folder.glob("*.claim")):
            if file == self.file:
                continue
            try:
                data, age = file.read_bytes(), now - file.stat().st_mtime
            except FileNotFoundError:
                continue
            except OSError:
                data, age = b"", now - _mtime(file)
            header, keys = decode(data)
            if not _is_alive(file, header.host, age):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
                    _lock_path(file).unlink(missing_ok=True)
            elif header.fingerprints is None or header.fingerprints & self.fingerprints:
                claims.append(keys)
        return claims

    def _now(self) -> float:
        """The time by the file system's clock, which may differ from ours."""
        try:
            os.utime(self.file)
            return self.file.stat().st_mtime
        except OSError:
            return _mtime(self.folder)

    def _heartbeat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(self.file)


class Header(NamedTuple):
    """Whose claim it is. Without values where the claim was truncated by a kill."""

    host: str = ""
    process: int = 0
    pids: str = ""  # equal for processes that see the same process ids
    fingerprints: frozenset[str] | None = None


def claim_file(root: Path, name: str) -> Path:
    """The file of a claim.

    Arguments:
        root: the store's folder.
        name: of the claim.
    """
    return root / "claims" / f"{name}.claim"


def encode(fingerprints: Collection[str], keys: np.ndarray) -> bytes:
    """The content of this process's claim.

    Arguments:
        fingerprints: of the columns.
        keys: DIGEST [m].
    """
    header = {
        "host": _host(),
        "process": os.getpid(),
        "pids": host_id(),
        "fingerprints": sorted(fingerprints),
    }
    return json.dumps(header).encode() + b"\n" + np.ascontiguousarray(keys, DIGEST).tobytes()


def decode(data: bytes) -> tuple[Header, np.ndarray]:
    """The inverse of `encode`: (header, keys: DIGEST [m]); without keys where it was truncated."""
    line, _, body = data.partition(b"\n")
    try:
        found = json.loads(line)
        header = Header(
            str(found["host"]),
            int(found.get("process", 0)),
            str(found.get("pids", "")),
            frozenset(found["fingerprints"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Header(), np.zeros(0, DIGEST)
    return header, np.frombuffer(body[: len(body) // 32 * 32], DIGEST)


def has_ended_here(header: Header) -> bool:
    """Whether a claim is of a process of this machine that no longer runs.

    Arguments:
        header: of the claim.
    """
    here = header.host == _host() and header.pids == host_id()
    return here and os.name == "posix" and not is_running(header.process)


def dead_claims(root: Path) -> list[Path]:
    """Claim and lock files of dead processes in the store `root`. Deletes nothing."""
    folder, found = root / "claims", []
    now = time.time()
    for file in sorted(folder.glob("*.claim")):
        try:
            host = decode(file.read_bytes())[0].host
        except OSError:
            host = ""
        if not _is_alive(file, host, now - _mtime(file)):
            found += [path for path in (file, _lock_path(file)) if path.exists()]
    return found


def _is_alive(file: Path, host: str, age: float) -> bool:
    """Whether the process behind a claim lives; `age`: seconds since its last heartbeat."""
    if host and host != _host():
        return age < DEAD_AFTER
    lock = FileLock(_lock_path(file))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return age < STUCK_AFTER
    except (OSError, NotImplementedError):
        return age < DEAD_AFTER
    lock.release()
    return False


def _lock_path(file: Path) -> Path:
    return file.with_suffix(".lock")


def _mtime(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _host() -> str:
    """This machine since its last boot: locks do not survive a reboot."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot_id = ""
    return f"{socket.gethostname()} {boot_id}"
