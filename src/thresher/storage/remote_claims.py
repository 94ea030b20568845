"""Claims of processes that share a store on a remote file system: as `claims`, as objects.

    claims/<id>.claim   one process's claim, as in a local store; written again every ten seconds
    claims/all.lock     exists briefly while claims are read and made

A process is dead when its claim was not written for two minutes by the server's clock, or, on its
own machine, when it no longer runs.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence

import numpy as np

from thresher.errors import StoreError
from thresher.storage.claims import (
    DEAD_AFTER,
    HEARTBEAT,
    LOCK_TIMEOUT,
    Header,
    decode,
    encode,
    has_ended_here,
)
from thresher.storage.remote_folder import Entry, RemoteFolder
from thresher.storage.remote_lock import RemoteLock
from thresher.types import DIGEST

FOLDER = "claims"
# seconds: all.lock is held for a few requests. Whoever continues with a stale one of a process that
# only waited for the server may claim rows twice.
LOCK_STALE = 30.0


class RemoteClaims:
    """One process's claims on rows of some columns. A context manager, as `claims.Claims`.

    Arguments:
        folder: the store's remote folder.
        fingerprints: of the columns that are being scored.

    Raises StoreError if the claim cannot be written.
    """

    def __init__(self, folder: RemoteFolder, fingerprints: Sequence[str]) -> None:
        self.folder, self.fingerprints = folder, frozenset(fingerprints)
        self.name = uuid.uuid4().hex
        self._file = file_of(self.name)
        self._lock = RemoteLock(folder, f"{FOLDER}/all.lock", LOCK_STALE)
        self._known: dict[str, tuple[str, Header, np.ndarray]] = {}  # name -> tag, what it holds
        self._body, self._written = b"", 0.0  # when our claim was written, by our clock
        self._writing, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._heartbeat, name="thresher-claims", daemon=True)

    def __enter__(self) -> RemoteClaims:
        self.claim(np.zeros(0, DIGEST))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(StoreError), self._writing:  # else: it expires
            self.folder.delete([self._file])

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """As `Claims.exclusive`."""
        with self._lock.held(LOCK_TIMEOUT):
            yield

    def claim(self, keys: np.ndarray) -> None:
        """As `Claims.claim`; `keys`: DIGEST [m]."""
        with self._writing:
            self._body = encode(self.fingerprints, keys)
            self._write()

    def other_claims(self) -> list[np.ndarray]:
        """As `Claims.other_claims`: a list of DIGEST [m]."""
        entries = claims_in(self.folder)
        own = entries.pop(self._file, None)
        if own is None:  # the server was away for so long that another process deleted it
            with self._writing:
                self._write()
            own = claims_in(self.folder).get(self._file)
        now = time.time() if own is None else own.modified + time.monotonic() - self._written
        claims = []
        for name, entry in sorted(entries.items()):
            found = self._read(name, entry.tag)
            if found is None:
                continue
            header, keys = found
            if is_dead(header, now - entry.modified):
                self.folder.delete([name])
            elif header.fingerprints is None or header.fingerprints & self.fingerprints:
                claims.append(keys)
        return claims

    def _read(self, name: str, tag: str) -> tuple[Header, np.ndarray] | None:
        """What a claim holds; read only if it has changed. None: it was deleted."""
        if name in self._known and self._known[name][0] == tag:
            return self._known[name][1:]
        data = self.folder.read(name)
        if data is None:
            return None
        self._known[name] = (tag, *decode(data))
        return self._known[name][1:]

    def _write(self, patient: bool = True) -> None:
        began = time.monotonic()
        self.folder.write(self._file, self._body, patient)
        self._written = began

    def _heartbeat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            with contextlib.suppress(StoreError), self._writing:
                if not self._stop.is_set():
                    self._write(patient=False)


def file_of(name: str) -> str:
    """The object of a claim; `name`: of the claim."""
    return f"{FOLDER}/{name}.claim"


def claims_in(folder: RemoteFolder) -> dict[str, Entry]:
    """The claims in a store's remote folder."""
    return {name: e for name, e in folder.entries(FOLDER).items() if name.endswith(".claim")}


def is_dead(header: Header, age: float) -> bool:
    """Whether the process behind a claim has ended.

    Arguments:
        header: of the claim.
        age: seconds since it was written.
    """
    return age > DEAD_AFTER or has_ended_here(header)
