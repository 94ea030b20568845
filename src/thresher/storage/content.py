"""Identity of files by content: SHA-256 of their bytes, computed once by several threads and remembered.

A remembered digest is used while path, size, modification time, change time and inode are the same. The change time is
set by the system at every write and cannot be set by a program, so `cp -p`, `rsync -t` and `touch -r` do not hide a
write. Because clocks and network file systems are not perfect, some files are read again at every opening (`Memory.verify`).

Reads the files that it is given; writes below the folder of a `Memory` only.
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

from thresher.types import DIGEST

WHOLE = 32 << 20  # bytes: a spot check reads a file up to this size whole, and `BLOCKS` blocks of a larger one
BLOCKS, BLOCK = 16, 4096
TICK = 20_000_000  # ns: two writes closer than this may carry the same time stamp
COARSE_TICK = 2_000_000_000  # ns: the same on file systems that keep whole seconds
TRIES = 3
PARTS = 8  # files of one memory before they are merged
THREADS = min(32, 4 * (os.cpu_count() or 1))  # reading waits for disks and networks; hashing releases the GIL
_MAGIC = b"thresher content 1\n"
_ENTRY = np.dtype(
    [("name", "<u8"), ("more", "<u8"), ("stamp", "<i8", (4,)), ("digest", "S32"), ("sample", "S16")], align=True
)

Progress = Callable[[int, int], None]  # called with (bytes done, bytes in all)


class Stamp(NamedTuple):
    """What the file system says of a file; any write changes it. Times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, about: os.stat_result) -> Stamp:
        inode = about.st_ino & 0xFFFF_FFFF_FFFF_FFFF
        return cls(about.st_size, about.st_mtime_ns, about.st_ctime_ns, inode - (1 << 64 if inode >> 63 else 0))

    def wait(self) -> float:
        """Seconds until a further write is sure to get another stamp; 0.0 when it is already."""
        newest = max(self.mtime_ns, self.ctime_ns)
        tick = COARSE_TICK if self.ctime_ns % 1_000_000_000 == 0 else TICK
        age = time.time_ns() - newest
        return (tick - age) / 1e9 if 0 <= age < tick else 0.0


class Changed(OSError):
    """A file was written to while it was read."""


class Hashed(NamedTuple):
    """`digest`: SHA-256, 32 bytes; `sample`: 16 bytes that a spot check compares."""

    digest: bytes
    sample: bytes
    stamp: Stamp


def hash_open(descriptor: int) -> Hashed:
    """The whole content of an open file. Raises OSError; `Changed` where it is written to all the time."""
    for _ in range(TRIES):
        before = Stamp.of(os.fstat(descriptor))
        if 0 < before.wait() <= TICK / 1e9:
            time.sleep(before.wait())
        state = hashlib.sha256()
        at = 0
        while at <= before.size:  # never beyond: a file of /proc has no end
            block = os.pread(descriptor, min(1 << 20, before.size + 1 - at), at)
            if not block:
                break
            state.update(block)
            at += len(block)
        if at == before.size and Stamp.of(os.fstat(descriptor)) == before:
            digest = state.digest()
            return Hashed(digest, digest[:16] if at <= WHOLE else blocks_of(descriptor, at), before)
    raise Changed("it is being written to; wait until that has ended")


def sample_open(descriptor: int, size: int) -> bytes:
    """What a spot check compares, 16 bytes: of the whole file up to `WHOLE`, of some blocks of a larger one."""
    if size > WHOLE:
        return blocks_of(descriptor, size)
    return hash_open(descriptor).digest[:16]


def blocks_of(descriptor: int, size: int, blocks: int = BLOCKS, block: int = BLOCK) -> bytes:
    """16 bytes: a hash of the size and of evenly spread blocks; of the whole file where that is not more."""
    state = hashlib.sha256(str(size).encode())
    if size <= blocks * block:
        state.update(os.pread(descriptor, size, 0))
    else:
        for i in range(blocks):
            state.update(os.pread(descriptor, block, (size - block) * i // (blocks - 1)))
    return state.digest()[:16]


class Memory:
    """Digests of files below one root, kept in `folder` (None: nothing is kept). Files are known by relative `name`.

    Any number of processes may read and write at once: each adds files of its own, which are complete when they exist.
    """

    def __init__(self, folder: Path | None, root: str) -> None:
        key = hashlib.sha256(root.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.folder = None if folder is None else folder / key

    def recall(self, names: Sequence[bytes], stamps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(digest: DIGEST [m], sample: S16 [m], found: bool [m]). `stamps`: int64 [m, 4] as `Stamp` has them."""
        m = len(names)
        digest, sample, found = np.zeros(m, DIGEST), np.zeros(m, "S16"), np.zeros(m, bool)
        known = self._load()
        if not m or not len(known):
            return digest, sample, found
        wanted = _keys(names)
        order = np.lexsort((np.arange(len(known)), known["name"]))  # of equal names the newest last
        ordered = known["name"][order]
        at = np.searchsorted(ordered, wanted[:, 0], side="right") - 1
        near = order[np.maximum(at, 0)]
        entry = known[near]
        found = (
            (at >= 0)
            & (entry["name"] == wanted[:, 0])
            & (entry["more"] == wanted[:, 1])
            & (entry["stamp"] == stamps).all(axis=1)
        )
        digest[found], sample[found] = entry["digest"][found], entry["sample"][found]
        return digest, sample, found

    def remember(self, names: Sequence[bytes], stamps: np.ndarray, digest: np.ndarray, sample: np.ndarray) -> None:
        """Best effort: where nothing can be written, the files are read again next time."""
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

    def forget(self) -> None:
        """After a spot check has failed: nothing of this root is believed any more."""
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
        """The entries of one file; none where it is gone or damaged."""
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
        self.folder.mkdir(parents=True, exist_ok=True)
        body = entries.tobytes()
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}.hashes"
        temporary = self.folder / f".tmp-{name}"
        try:
            temporary.write_bytes(_MAGIC + body + zlib.crc32(body).to_bytes(4, "little"))
            os.replace(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)


def digests(paths: Sequence[Path], memory: Path | None, progress: Progress | None = None) -> list[bytes]:
    """SHA-256 (32 bytes) of each file, whole. For a few large files, such as the weights of a model.

    `memory`: the folder in which digests are remembered. A remembered file is spot-checked: up to 32 MiB it is read again,
    of a larger one 16 blocks are; where that does not match, it is hashed anew. Raises OSError.
    """
    remembered = Memory(memory, "")
    names = [os.fsencode(os.path.realpath(p)) for p in paths]
    stamps = np.array([Stamp.of(os.stat(p)) for p in paths], np.int64).reshape(len(paths), 4)
    known, sample, found = remembered.recall(names, stamps)
    out = [known[i : i + 1].tobytes() for i in range(len(paths))]
    total = int(stamps[:, 0].sum())
    done = 0

    def one(i: int) -> Hashed | None:
        descriptor = os.open(paths[i], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            if found[i] and sample_open(descriptor, int(stamps[i, 0])) == sample[i : i + 1].tobytes():
                return None
            return hash_open(descriptor)
        finally:
            os.close(descriptor)

    fresh: list[tuple[int, Hashed]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for i, made in enumerate(pool.map(one, range(len(paths)))):
            if made is not None:
                out[i] = made.digest
                if not made.stamp.wait():
                    fresh.append((i, made))
            done += int(stamps[i, 0])
            if progress is not None:
                progress(done, total)
    if fresh:
        remembered.remember(
            [names[i] for i, _ in fresh],
            np.array([h.stamp for _, h in fresh], np.int64),
            np.frombuffer(b"".join(h.digest for _, h in fresh), DIGEST),
            np.frombuffer(b"".join(h.sample for _, h in fresh), "S16"),
        )
    return out


def _keys(names: Sequence[bytes]) -> np.ndarray:
    """uint64 [m, 2]: a hash of each name."""
    raw = b"".join([hashlib.blake2b(name, digest_size=16).digest() for name in names])
    return np.frombuffer(raw, "<u8").reshape(len(names), 2)
