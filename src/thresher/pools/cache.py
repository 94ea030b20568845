"""A parsed pool on disk, so that the second opening is instant: one file of flat arrays, mapped
into memory.

Layout: magic, length of the header (8 bytes), header (JSON: stamp, arrays with dtype, length and
offset), the arrays, each on a 64-byte boundary, then a CRC-32 of everything before it. Written to a
temporary name and renamed, so that an existing file is complete; a damaged one is detected and the
pool parsed again. Touches the cache folder only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from thresher.pools.files import FileState
from thresher.pools.index import Index
from thresher.pools.text_column import TextColumn
from thresher.storage.atomic import atomic_write, remove_stale

_MAGIC = b"thresher pool 6\n"
_ALIGN = 64


class CacheDamaged(Exception):
    """The cache file differs from what was written."""


def cache_file(cache: Path, path: str, images: str) -> Path:
    """The cache file of a pool: one per pool and image folder, so that a changed pool replaces its
    own entry.

    Arguments:
        cache: folder of the cache.
        path: of the pool.
        images: its image folder.
    """
    return cache / (
        hashlib.sha256(f"{path}\0{images}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        + ".pool"
    )


def save_index(
    index: Index, stamp: Mapping[str, Any], states: Sequence[FileState], file: Path
) -> None:
    """Write the index atomically.

    Arguments:
        index: of the pool.
        stamp: the arguments that the pool was opened with.
        states: the states of its files when they were read.
        file: the file to write.

    Raises OSError (no permission, disk full); no partial file remains.
    """
    arrays: dict[str, np.ndarray] = {}
    for f in dataclasses.fields(index):
        value = getattr(index, f.name)
        if isinstance(value, TextColumn):
            arrays[f.name + ".blob"], arrays[f.name + ".ends"] = value.blob, value.ends
        elif isinstance(value, np.ndarray):
            arrays[f.name] = value
    offset, table = 0, {}
    for name, a in arrays.items():
        table[name] = {"dtype": a.dtype.str, "length": len(a), "at": offset}
        offset += -(-a.nbytes // _ALIGN) * _ALIGN
    header = json.dumps(
        {"stamp": dict(stamp), "files": [asdict(k) for k in states], "arrays": table}
    ).encode()
    header += b" " * (-(len(_MAGIC) + 8 + len(header)) % _ALIGN)
    remove_stale(file.parent)
    with atomic_write(file) as temporary, open(temporary, "xb") as out:
        crc = 0
        for block in (_MAGIC, len(header).to_bytes(8, "little"), header):
            out.write(block)
            crc = zlib.crc32(block, crc)
        for a in arrays.values():
            for part in (np.ascontiguousarray(a).view(np.uint8).data, bytes(-a.nbytes % _ALIGN)):
                out.write(part)
                crc = zlib.crc32(part, crc)
        out.write(crc.to_bytes(4, "little"))


def load_index(file: Path, stamp: Mapping[str, Any]) -> tuple[Index, list[FileState]] | None:
    """The cached index and the states of the files it was read from; None if there is no entry or
    `stamp` differs. Raises CacheDamaged.

    Arguments:
        file: the cache file.
        stamp: the arguments that the pool is opened with.
    """
    try:
        with open(file, "rb") as f:
            if os.fstat(f.fileno()).st_size < len(_MAGIC) + 12:
                raise CacheDamaged("too short")
            content = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheDamaged(str(error)) from error
    view = memoryview(content)
    if bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise CacheDamaged("not a pool cache")
    if zlib.crc32(view[:-4]) != int.from_bytes(view[-4:], "little"):
        raise CacheDamaged("checksum differs")
    start = len(_MAGIC) + 8
    size = int.from_bytes(view[len(_MAGIC) : start], "little")
    header = json.loads(bytes(view[start : start + size]))
    if header["stamp"] != dict(stamp):
        return None
    table, base = header["arrays"], start + size

    def array(name: str) -> np.ndarray:
        entry = table[name]
        return np.frombuffer(view, np.dtype(entry["dtype"]), entry["length"], base + entry["at"])

    found: dict[str, Any] = {}
    for field in dataclasses.fields(Index):
        if field.name + ".blob" in table:
            found[field.name] = TextColumn(array(field.name + ".blob"), array(field.name + ".ends"))
        elif field.name in table:
            found[field.name] = array(field.name)
    return Index(**found), [FileState(**k) for k in header["files"]]
