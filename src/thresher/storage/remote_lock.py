"""A lock on a remote file system: an object that only one process can create.

Its owner writes it again now and then. An owner that was killed cannot delete it: a process that
has seen it unchanged for long enough does. If two processes do that at once, both may hold the
lock, so it must guard only work that is allowed to happen twice.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from thresher.errors import StoreError
from thresher.storage.remote_folder import RemoteFolder

POLL_SECONDS = 0.25
HEARTBEAT = 10.0  # seconds between two writes of the owner


class RemoteLock:
    """A lock of one process; threads of a process exclude each other, too.

    Arguments:
        folder: that holds the object.
        name: of the object.
        stale_after: seconds after which an unchanged object is that of a dead process.
    """

    def __init__(self, folder: RemoteFolder, name: str, stale_after: float) -> None:
        self._folder, self._name, self._stale_after = folder, name, stale_after

    @contextlib.contextmanager
    def held(
        self, timeout: float | None = None, waiting: Callable[[], None] | None = None
    ) -> Iterator[bool]:
        """Run the body with the lock. Yields whether it is held.

        Arguments:
            timeout: seconds after which the body runs without it; None: waits without a limit.
            waiting: called once if another process holds it.

        Raises StoreError if the server does not answer.
        """
        token = uuid.uuid4().hex.encode()
        if not self._acquire(token, timeout, waiting):
            yield False
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._renew, args=(token, stop), daemon=True)
        thread.start()
        try:
            yield True
        finally:
            stop.set()
            thread.join()  # or it might write the object after it was deleted
            with contextlib.suppress(StoreError):  # others find it stale
                self._folder.delete([self._name])

    def _acquire(
        self, token: bytes, timeout: float | None, waiting: Callable[[], None] | None
    ) -> bool:
        seen: bytes | None = None
        began = since = time.monotonic()
        while True:
            found, now = self._folder.read(self._name), time.monotonic()
            if found is None:
                self._folder.create(self._name, token)
                # Read also where it was created: servers without conditional writes let two
                # processes create it, and only the last one's is there. And where it was not: the
                # answer to an earlier try may have been lost.
                found = self._folder.read(self._name)
                if found is not None and found.startswith(token):
                    return True
            if found != seen:
                seen, since = found, now
            elif found is not None and now - since >= self._stale_after:
                self._folder.delete([self._name])
                continue
            if timeout is not None and now - began >= timeout:
                return False
            if waiting is not None:
                waiting()
                waiting = None
            time.sleep(POLL_SECONDS * (0.5 + random.random()))

    def _renew(self, token: bytes, stop: threading.Event) -> None:
        beats = 0
        while not stop.wait(HEARTBEAT):
            beats += 1
            with contextlib.suppress(StoreError):
                self._folder.write(self._name, b"%s %d" % (token, beats), patient=False)
