"""Content hashes of files: SHA-256, computed by several threads and cached.

A cached digest is used while path, size, modification time, change time and inode are unchanged.
The system sets the change time at every write and programs cannot set it, so `cp -p`, `rsync -t`
and `touch -r` do not hide a write. Because clocks and network file systems are not perfect, some
files are read again at every opening.

Reads the files that it is given; writes only below the folder of a `HashCache`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thresher.storage.atomic import atomic_write, remove_stale
from thresher.types import DIGEST

WHOLE = 32 << 20  # bytes: a spot check reads all of a file up to this size, else `BLOCKS` blocks
BLOCKS, BLOCK = 16, 4096
TICK = 20_000_000  # ns: two writes closer than this may carry the same time stamp
COARSE_TICK = 2_000_000_000  # ns: the same on file systems that keep whole seconds
TRIES = 3
PARTS = 8  # files per cache before they are merged
THREADS = min(32, 4 * (os.cpu_count() or 1))  # I/O bound; hashing releases the GIL
_MAGIC = b"thresher content 1\n"
_ENTRY = np.dtype(
    [
        ("name", "<u8"),
        ("more", "<u8"),
        ("stamp", "<i8", (4,)),
        ("digest", "S32"),
        ("sample", "S16"),
    ],
    align=True,
)

Progress = Callable[[int, int], None]  # called with (bytes done, bytes in all)


class Stamp(NamedTuple):
    """File metadata that any write changes. Times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        inode = stat.st_ino & 0xFFFF_FFFF_FFFF_FFFF
        signed = inode - (1 << 64 if inode >> 63 else 0)
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, signed)

    def wait(self) -> float:
        """Seconds until another write is guaranteed to change the stamp; 0.0 if it is already."""
        newest = max(self.mtime_ns, self.ctime_ns)
        tick = COARSE_TICK if self.ctime_ns % 1_000_000_000 == 0 else TICK
        age = time.time_ns() - newest
        return (tick - age) / 1e9 if 0 <= age < tick else 0.0


class FileChanged(OSError):
    """A file was modified while it was read."""


class FileHash(NamedTuple):
    """`digest`: SHA-256, 32 bytes. `sample`: 16 bytes, compared by a spot check."""

    digest: bytes
    sample: bytes
    stamp: Stamp


def hash_descriptor(descriptor: int) -> FileHash:
    """Hash the whole content of an open file.

    Raises OSError; FileChanged if it is modified during each of `TRIES` attempts.
    """
    for _ in range(TRIES):
        before = Stamp.of(os.fstat(descriptor))
        if 0 < before.wait() <= TICK / 1e9:
            time.sleep(before.wait())
        state = hashlib.sha256()
        offset = 0
        while offset <= before.size:  # not beyond: some files of /proc never end
            block = os.pread(descriptor, min(1 << 20, before.size + 1 - offset), offset)
            if not block:
                break
            state.update(block)
            offset += len(block)
        if offset == before.size and Stamp.of(os.fstat(descriptor)) == before:
            digest = state.digest()
            sample = digest[:16] if offset <= WHOLE else hash_blocks(descriptor, offset)
            return FileHash(digest, sample, before)
    raise FileChanged("it is being written to; wait until that has ended")


def sample_descriptor(descriptor: int, size: int) -> bytes:
    """The 16 bytes that a spot check compares: a hash of a file up to `WHOLE`, else of some
    blocks.

    Arguments:
        descriptor: of the open file.
        size: of the file in bytes.
    """
    if size > WHOLE:
        return hash_blocks(descriptor, size)
    return hash_descriptor(descriptor).digest[:16]


def hash_blocks(descriptor: int, size: int, blocks: int = BLOCKS, block: int = BLOCK) -> bytes:
    """Hash of the size and of evenly spaced blocks (or of a whole small file), 16 bytes.

    Arguments:
        descriptor: of the open file.
        size: of the file in bytes.
        blocks: number of blocks, at least 2.
        block: bytes of a block.
    """
    state = hashlib.sha256(str(size).encode())
    if size <= blocks * block:
        state.update(os.pread(descriptor, size, 0))
    else:
        for i in range(blocks):
            state.update(os.pread(descriptor, block, (size - block) * i // (blocks - 1)))
    return state.digest()[:16]


class HashCache:
    """Cached digests of the files below one root, by relative name.

    Any number of processes may read and write at once: each adds its own files atomically.

    Arguments:
        folder: where digests are stored; None stores nothing.
        root: identifies the root folder.
    """

    def __init__(self, folder: Path | None, root: str) -> None:
        key = hashlib.sha256(root.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.folder = None if folder is None else folder / key

    def lookup(
        self, names: Sequence[bytes], stamps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Look up files.

        Arguments:
            names: m relative names.
            stamps: int64 [m, 4], the fields of `Stamp`.

        Returns (digest: DIGEST [m], sample: S16 [m], found: bool [m]).
        """
        m = len(names)
        digest, sample, found = np.zeros(m, DIGEST), np.zeros(m, "S16"), np.zeros(m, bool)
        known = self._load()
        if not m or not len(known):
            return digest, sample, found
        keys = _keys(names)
        order = np.lexsort((np.arange(len(known)), known["name"]))  # among equal names, newest last
        ordered = known["name"][order]
        position = np.searchsorted(ordered, keys[:, 0], side="right") - 1
        entry = known[order[np.maximum(position, 0)]]
        found = (
            (position >= 0)
            & (entry["name"] == keys[:, 0])
            & (entry["more"] == keys[:, 1])
            & (entry["stamp"] == stamps).all(axis=1)
        )
        digest[found], sample[found] = entry["digest"][found], entry["sample"][found]
        return digest, sample, found

    def add(
        self, names: Sequence[bytes], stamps: np.ndarray, digest: np.ndarray, sample: np.ndarray
    ) -> None:
        """Store digests, best effort: if writing fails, the files are read again next time.

        Arguments:
            names: m relative names.
            stamps: int64 [m, 4], the fields of `Stamp`.
            digest: DIGEST [m], of the whole files.
            sample: S16 [m], what a spot check compares.
        """
        if self.folder is None or not len(names):
            return
        entries = np.zeros(len(names), _ENTRY)
        keys = _keys(names)
        entries["name"], entries["more"], entries["stamp"] = keys[:, 0], keys[:, 1], stamps
        entries["digest"], entries["sample"] = digest, sample
        parts = self._parts()
        with contextlib.suppress(OSError):
            if len(parts) >= PARTS:
                whole = np.concatenate([*(self._read(p) for p in parts), entries])
                _, last = np.unique(whole["name"][::-1], return_index=True)
                self._write(whole[::-1][last])
                for p in parts:
                    p.unlink(missing_ok=True)
            else:
                self._write(entries)

    def clear(self) -> None:
        """Delete all entries of this root, after a spot check has failed."""
        for part in self._parts():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        try:
            return [] if self.folder is None else sorted(self.folder.glob("*.hashes"))
        except OSError:
            return []

    def _load(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, _ENTRY), *(self._read(p) for p in self._parts())])

    def _read(self, part: Path) -> np.ndarray:
        """The entries of one file; empty if it is missing or damaged."""
        try:
            data = part.read_bytes()
        except OSError:
            return np.zeros(0, _ENTRY)
        body = data[len(_MAGIC) : -4]
        if not data.startswith(_MAGIC) or zlib.crc32(body) != int.from_bytes(data[-4:], "little"):
            return np.zeros(0, _ENTRY)
        return np.frombuffer(body, _ENTRY)

    def _write(self, entries: np.ndarray) -> None:
        assert self.folder is not None
        remove_stale(self.folder)
        body = entries.tobytes()
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}.hashes"
        with atomic_write(self.folder / name) as temporary:
            temporary.write_bytes(_MAGIC + body + zlib.crc32(body).to_bytes(4, "little"))


def hash_files(
    paths: Sequence[Path], cache: Path | None, progress: Progress | None = None
) -> list[bytes]:
    """SHA-256 (32 bytes) of each file. For a few large files, such as a model's weights.

    Arguments:
        paths: the files.
        cache: folder of cached digests; None stores nothing. A cached file is spot-checked: up to
            32 MiB it is read again, of a larger one 16 blocks are; on a mismatch it is hashed
            again.
        progress: called with (bytes done, bytes in total).

    Raises OSError.
    """
    digests = HashCache(cache, "")
    names = [os.fsencode(os.path.realpath(p)) for p in paths]
    stamps = np.array([Stamp.of(os.stat(p)) for p in paths], np.int64).reshape(len(paths), 4)
    known, sample, found = digests.lookup(names, stamps)
    out = [known[i : i + 1].tobytes() for i in range(len(paths))]
    total = int(stamps[:, 0].sum())
    done = 0

    def hash_one(i: int) -> FileHash | None:
        descriptor = os.open(paths[i], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            if (
                found[i]
                and sample_descriptor(descriptor, int(stamps[i, 0])) == sample[i : i + 1].tobytes()
            ):
                return None
            return hash_descriptor(descriptor)
        finally:
            os.close(descriptor)

    new: list[tuple[int, FileHash]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for i, hashed in enumerate(pool.map(hash_one, range(len(paths)))):
            if hashed is not None:
                out[i] = hashed.digest
                if not hashed.stamp.wait():
                    new.append((i, hashed))
            done += int(stamps[i, 0])
            if progress is not None:
                progress(done, total)
    if new:
        digests.add(
            [names[i] for i, _ in new],
            np.array([h.stamp for _, h in new], np.int64),
            np.frombuffer(b"".join(h.digest for _, h in new), DIGEST),
            np.frombuffer(b"".join(h.sample for _, h in new), "S16"),
        )
    return out


def _keys(names: Sequence[bytes]) -> np.ndarray:
    """uint64 [m, 2]: a hash of each name."""
    raw = b"".join([hashlib.blake2b(name, digest_size=16).digest() for name in names])
    return np.frombuffer(raw, "<u8").reshape(len(names), 2)
