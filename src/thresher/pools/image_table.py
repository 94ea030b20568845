"""The current state of a pool's images: which files exist, and the SHA-256 of their contents.

A digest is computed once and cached (`thresher.storage.hashing`); a file that is missing or may not
be read has none. Files outside the image folder, reached by a symbolic link, are not read. Remote
images are downloaded and hashed; their digests are cached if the store reports more than a size (an
ETag, a time). Reads the image folder; writes the cache only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from thresher.errors import ImageError
from thresher.pools import files
from thresher.pools.paths import resolve_inside, unsafe_path_reason
from thresher.pools.text_column import TextColumn
from thresher.storage import hashing
from thresher.storage.hashing import THREADS, FileHash, HashCache, Stamp
from thresher.storage.retries import may_pass, retried
from thresher.types import DIGEST, ImageRef

CHUNK_IMAGES = 512  # images per task of a thread
SPOT_CHECKS = 32  # cached images that are read again at each opening
SLOW_STAT = 40e-6  # seconds: slower file systems are queried by several threads
REMOTE_STAMP_KEYS = (
    "size",
    "ETag",
    "etag",
    "md5Hash",
    "checksum",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)

Hashing = Callable[[int, int], None]  # called with (images hashed, images to hash)


@dataclass(frozen=True)
class ImageTable:
    """m images. `mtime` of a remote image is a hash of everything its store reports about it."""

    size: np.ndarray  # int64 [m]: bytes; -1 = no such file, or a path that may not be read
    mtime: np.ndarray  # int64 [m], ns
    ctime: np.ndarray  # int64 [m], ns; -1: a later write may leave the stamp unchanged
    inode: np.ndarray  # int64 [m]
    digest: np.ndarray  # DIGEST [m]: SHA-256 of the bytes; zeros if they were not read

    @property
    def stamps(self) -> np.ndarray:
        """int64 [m, 4], the fields of `hashing.Stamp`."""
        return np.stack([self.size, self.mtime, self.ctime, self.inode], axis=1)

    @classmethod
    def of(cls, stamps: np.ndarray, digest: np.ndarray) -> ImageTable:
        """The table of m images.

        Arguments:
            stamps: int64 [m, 4], the fields of `hashing.Stamp`.
            digest: DIGEST [m].
        """
        size, mtime, ctime, inode = (np.ascontiguousarray(stamps[:, k]) for k in range(4))
        return cls(size, mtime, ctime, inode, digest)


def image_identity(path: str, size: int, digest: bytes, trusted: bool) -> str:
    """`ImageRef.identity` of an image of the table.

    Arguments:
        path: as in the table.
        size: in bytes; -1: no such file.
        digest: 32 bytes, zeros if unknown.
        trusted: whether path and size identify the image.
    """
    if path.startswith("bytes:"):
        return "sha256:" + path[6:]
    return ImageRef(path, None, size, digest.hex() if any(digest) else "", trusted).identity


def scan_images(
    root: str,
    paths: TextColumn,
    embedded: np.ndarray,
    known: ImageTable,
    cache: HashCache,
    *,
    trust: bool = False,
    first: bool = True,
    hashing: Hashing | None = None,
) -> tuple[ImageTable, list[str]]:
    """The current state of the images, and notes for the user.

    Arguments:
        root: the image folder, or its address.
        paths: [m] paths below it.
        embedded: bool [m], images inside records.
        known: the result of an earlier scan, or (with `first`) the sizes of embedded images only.
        cache: digests of earlier scans.
        trust: read no image: path and size identify it.
        first: whether there was no earlier scan.
        hashing: called with (images hashed, images to hash).
    """
    source: _LocalImages | _RemoteImages = (
        _RemoteImages(root) if files.is_remote(root) else _LocalImages(root)
    )
    names = [paths.blob[a:b].tobytes() for a, b in _text_spans(paths)]
    stamps = source.stamps(names, embedded, None if first else known.size)
    stamps[embedded] = known.stamps[embedded]
    m = len(names)
    if trust:
        return ImageTable.of(stamps, np.zeros(m, DIGEST)), []
    digest = np.zeros(m, DIGEST)
    exists = (stamps[:, 0] >= 0) & ~embedded
    if not first:
        same = exists & (stamps == known.stamps).all(axis=1)
        digest[same] = known.digest[same]
    todo = np.flatnonzero(exists & (digest == DIGEST.type()))
    if len(todo):
        cached, _, found = cache.lookup([names[i] for i in todo.tolist()], stamps[todo])
        digest[todo[found]] = cached[found]
        todo = todo[~found]
    notes = []
    remembered = np.flatnonzero(exists & (digest != DIGEST.type()))
    if isinstance(source, _LocalImages) and not source.spot_check(
        names, remembered, stamps, digest
    ):
        cache.clear()
        notes.append(
            "An image was overwritten without a change of its size and times: all images were read "
            "again."
        )
        todo = np.flatnonzero(exists)
        digest[todo] = DIGEST.type()
    _hash_images(source, names, todo, stamps, digest, cache, hashing)
    return ImageTable.of(stamps, digest), notes


def _hash_images(
    source: _LocalImages | _RemoteImages,
    names: Sequence[bytes],
    todo: np.ndarray,
    stamps: np.ndarray,
    digest: np.ndarray,
    cache: HashCache,
    hashing: Hashing | None,
) -> None:
    """Hash the images `todo` with several threads; the results go into `stamps`, `digest` and the
    cache.
    """
    if not len(todo):
        return
    hashed: list[tuple[int, FileHash]] = []

    def chunk(indices: np.ndarray) -> list[tuple[int, FileHash | None]]:
        return [(i, source.hash(names[i], stamps[i])) for i in indices.tolist()]

    def remember() -> None:
        if hashed:
            cache.add(
                [names[i] for i, _ in hashed],
                np.array([h.stamp for _, h in hashed], np.int64),
                np.frombuffer(b"".join(h.digest for _, h in hashed), DIGEST),
                np.frombuffer(b"".join(h.sample for _, h in hashed), "S16"),
            )

    done = 0
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for found in _map_in_order(pool, chunk, todo):
                for i, file_hash in found:
                    if file_hash is None:
                        stamps[i, 2] = -1  # try again at the next opening
                        continue
                    digest[i] = file_hash.digest
                    stamps[i] = file_hash.stamp
                    if source.is_settled(file_hash.stamp):
                        hashed.append((i, file_hash))
                    else:
                        stamps[i, 2] = -1
                done += len(found)
                if hashing is not None:
                    hashing(done, len(todo))
    finally:
        remember()  # also after Ctrl-C: the next opening resumes here


def _map_in_order(
    pool: ThreadPoolExecutor, work: Callable[[np.ndarray], Any], todo: np.ndarray
) -> Iterator[Any]:
    """Results of `work` for chunks of `todo`, in order. Few chunks are submitted ahead, so that an
    interruption ends soon.
    """
    size = max(1, min(CHUNK_IMAGES, -(-len(todo) // THREADS)))
    chunks = [todo[a : a + size] for a in range(0, len(todo), size)]
    pending = [pool.submit(work, c) for c in chunks[: 2 * THREADS]]
    next_chunk = len(pending)
    try:
        while pending:
            yield pending.pop(0).result()
            if next_chunk < len(chunks):
                pending.append(pool.submit(work, chunks[next_chunk]))
                next_chunk += 1
    finally:
        for f in pending:
            f.cancel()


def _text_spans(paths: TextColumn) -> Iterator[tuple[int, int]]:
    ends = paths.ends.tolist()
    return zip([0, *ends[:-1]], ends, strict=False)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


class _LocalImages:
    """Images in a folder of this machine."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: dict[str, bool] = {}  # folder -> whether its real path is below the root

    def stamps(
        self, names: Sequence[bytes], skip: np.ndarray, sizes: np.ndarray | None
    ) -> np.ndarray:
        """int64 [m, 4]. `sizes`: from an earlier scan, if known."""
        m = len(names)
        out = np.full((m, 4), 0, np.int64)
        out[:, 0] = -1
        to_stat = np.flatnonzero(~skip)
        # the paths of the others were checked before
        unknown = to_stat if sizes is None else to_stat[sizes[to_stat] < 0]
        refused = [i for i in unknown.tolist() if unsafe_path_reason(_text(names[i]))]
        if refused:
            to_stat = np.setdiff1d(to_stat, np.array(refused, np.int64), assume_unique=True)
        descriptor = None
        with contextlib.suppress(OSError):  # a folder without read permission: use whole paths
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

        def chunk(indices: np.ndarray) -> np.ndarray:
            found = [self._stamp(names[i], descriptor) for i in indices.tolist()]
            return np.array(found, np.int64).reshape(len(indices), 4)

        try:
            head, rest = to_stat[:200], to_stat[200:]
            started = time.perf_counter()
            out[head] = chunk(head)
            slow = len(rest) and (time.perf_counter() - started) / len(head) > SLOW_STAT
            if slow:
                with ThreadPoolExecutor(THREADS) as pool:
                    out[rest] = np.concatenate(list(_map_in_order(pool, chunk, rest)))
            else:
                out[rest] = chunk(rest)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return out

    def _stamp(self, name: bytes, folder: int | None) -> tuple[int, int, int, int]:
        # ASCII has the same bytes on disk; other names are encoded by os.fsencode, as elsewhere
        path: bytes | str = name if name.isascii() else _text(name)
        try:
            if folder is None:
                info = os.stat(os.path.join(self.root, _text(name)))
            else:
                info = os.stat(path, dir_fd=folder)
        except (OSError, ValueError):
            return (-1, 0, 0, 0)
        return Stamp.of(info) if stat.S_ISREG(info.st_mode) else (-1, 0, 0, 0)

    def hash(self, name: bytes, stamp: np.ndarray) -> FileHash | None:
        """None if the file may not be read, cannot be read, or is being written to."""
        try:
            descriptor = self._open(_text(name))
        except (OSError, ValueError, ImageError):
            return None
        try:
            return (
                hashing.hash_descriptor(descriptor)
                if stat.S_ISREG(os.fstat(descriptor).st_mode)
                else None
            )
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def is_settled(self, stamp: Stamp) -> bool:
        return not stamp.wait()

    def spot_check(
        self, names: Sequence[bytes], remembered: np.ndarray, stamps: np.ndarray, digest: np.ndarray
    ) -> bool:
        """Whether a fresh random sample of these images still has the cached digests."""
        small = remembered[stamps[remembered, 0] <= hashing.WHOLE]
        # unseeded on purpose: it affects no result
        checked = random.SystemRandom().sample(small.tolist(), min(SPOT_CHECKS, len(small)))
        for i in checked:
            hashed = self.hash(names[i], stamps[i])
            if (
                hashed is not None
                and hashed.digest != digest[i : i + 1].tobytes()
                and hashed.stamp == tuple(stamps[i])
            ):
                return False
        return True

    def _open(self, path: str) -> int:
        folder = os.path.dirname(path)
        if folder not in self._folders:
            real = os.path.realpath(os.path.join(self.root, folder))
            self._folders[folder] = real == self.root or real.startswith(
                self.root.rstrip(os.sep) + os.sep
            )
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        if self._folders[folder]:
            try:
                return os.open(os.path.join(self.root, path), flags | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        return os.open(resolve_inside(self.root, path), flags)


class _RemoteImages:
    """Images below an address that fsspec supports."""

    def __init__(self, root: str) -> None:
        self.root = root

    def stamps(
        self, names: Sequence[bytes], skip: np.ndarray, sizes: np.ndarray | None
    ) -> np.ndarray:
        listed = self._listed()
        out = np.zeros((len(names), 4), np.int64)
        out[:, 0] = -1
        for i in np.flatnonzero(~skip).tolist():
            path = _text(names[i])
            if path in listed and not unsafe_path_reason(path):
                out[i] = listed[path]
        return out

    def _listed(self) -> dict[str, tuple[int, int, int, int]]:
        """Path below the address -> stamp. An address that cannot be listed has no images."""
        fs, inner = files.open_filesystem(self.root)
        try:
            found = retried(lambda: fs.find(inner, detail=True), self.root)
        # for a missing folder, each file system raises its own exceptions: there are no images
        except Exception as error:
            if may_pass(error):
                raise files.no_answer(self.root, error) from error
            return {}
        start = len(inner.rstrip("/")) + 1
        out = {}
        for path, info in found.items():
            stamp_fields = [f"{k}={info[k]}" for k in REMOTE_STAMP_KEYS if info.get(k) is not None]
            mark = int.from_bytes(
                hashlib.sha256("\0".join(stamp_fields).encode()).digest()[:7], "big"
            )
            out[path[start:]] = (
                int(info.get("size") or 0),
                mark,
                0 if len(stamp_fields) > 1 else -1,
                0,
            )
        return out

    def hash(self, name: bytes, stamp: np.ndarray) -> FileHash | None:
        fs, inner = files.open_filesystem(self.root)
        try:
            data = retried(lambda: fs.cat_file(f"{inner.rstrip('/')}/{_text(name)}"), self.root)
        # remote file systems raise their own exceptions; the rows that need the image report it
        except Exception as error:
            if may_pass(error):  # another hash would be another row
                raise files.no_answer(self.root, error) from error
            return None
        if len(data) != int(stamp[0]):
            return None  # it was written to since it was listed
        digest = hashlib.sha256(data).digest()
        return FileHash(digest, digest[:16], Stamp(*(int(v) for v in stamp)))

    def is_settled(self, stamp: Stamp) -> bool:
        return stamp.ctime_ns >= 0
