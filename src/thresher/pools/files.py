"""Opens the files of a pool for random access: local files directly, gzip and remote files as a
copy.

A remote file (`s3://…`, `memory://…`: any protocol of fsspec) is downloaded, and a gzip file
decompressed, once into an unnamed temporary file, which is deleted with the pool. Touches the files
and the temporary folder.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from thresher.errors import MissingExtra, PoolError, reason_of
from thresher.storage import hashing
from thresher.storage.addresses import filesystem
from thresher.storage.addresses import is_remote as is_remote
from thresher.storage.hashing import Stamp
from thresher.storage.retries import retried

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20
# bytes: of larger pool files only HASHED_BLOCKS blocks of 1 MB are hashed
MAX_WHOLE_HASH = 4 << 30
HASHED_BLOCKS = 256


def open_file(path: str) -> BinaryIO:
    """Open a file with a descriptor, decompressed. Raises PoolError: missing, not a plain file, no
    permission, a damaged gzip stream.
    """
    file = _download(path) if is_remote(path) else _open_local(path)
    head = os.pread(file.fileno(), 2, 0)
    if head != _GZIP:
        return file
    with file:
        return _decompress(file, path)


def file_stamp(path: str) -> list[Any]:
    """What changes when the file does: `hashing.Stamp` of a local one, the metadata of a remote
    one.

    Raises PoolError if there is no such file.
    """
    if is_remote(path):
        fs, inner = open_filesystem(path)
        try:
            info = fs.info(inner)
        except Exception as error:
            raise _unreadable_remote(path, error) from error
        keys = (
            "size",
            "ETag",
            "etag",
            "md5Hash",
            "mtime",
            "LastModified",
            "last_modified",
            "created",
            "updated",
        )
        return [f"{k}={info[k]}" for k in keys if info.get(k) is not None]
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise _missing_file(path) from None
    except (OSError, ValueError) as error:
        raise PoolError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    return list(Stamp.of(found))


@dataclass(frozen=True)
class FileState:
    """A file of a pool when it was read. `content`, `sample`: hexadecimal, "" for a remote file."""

    stamp: list[Any]
    content: str = ""  # SHA-256; of files over MAX_WHOLE_HASH bytes, of some blocks
    sample: str = ""  # of a few blocks: compared at each opening

    def if_unchanged(self, path: str) -> FileState | None:
        """The current state if the content is the same, else None. Raises PoolError if there is no
        file.
        """
        now = file_stamp(path)
        if is_remote(path):
            return self if now == self.stamp else None
        if now[0] != self.stamp[0]:
            return None
        if now == self.stamp and _hash_sample(path) == self.sample:
            return self
        found = read_state(path)
        return found if found.content == self.content else None


def read_state(path: str) -> FileState:
    """The current state of a file. Waits until any later write must change the stamp. Raises
    PoolError.
    """
    if is_remote(path):
        return FileState(file_stamp(path))
    with _open_local(path) as file:
        return read_open_state(file)


def read_open_state(file: BinaryIO) -> FileState:
    """As `read_state`, for an open local file. Raises PoolError if it cannot be read."""
    descriptor = file.fileno()
    stamp = Stamp.of(os.fstat(descriptor))
    if stamp.wait():
        time.sleep(min(stamp.wait(), hashing.TICK / 1e9))
    try:
        if stamp.size <= MAX_WHOLE_HASH:
            digest = hashing.hash_descriptor(descriptor).digest
        else:
            digest = hashing.hash_blocks(descriptor, stamp.size, HASHED_BLOCKS, _BLOCK)
    except OSError as error:
        raise PoolError(f"{file.name} cannot be read: {error.strerror or error}.") from error
    # -1: a later write may not change the stamp, so compare the content next time
    stored_stamp = stamp._replace(ctime_ns=-1) if stamp.wait() else stamp
    return FileState(
        list(stored_stamp), digest.hex(), hashing.hash_blocks(descriptor, stamp.size).hex()
    )


def _hash_sample(path: str) -> str:
    with _open_local(path) as file:
        return hashing.hash_blocks(file.fileno(), os.fstat(file.fileno()).st_size).hex()


def open_filesystem(address: str) -> tuple[Any, str]:
    """(fsspec file system, path in it) of a remote address. Raises MissingExtra or PoolError."""
    try:
        return filesystem(address)
    except MissingExtra:
        raise
    except Exception as error:  # an unknown protocol is a ValueError; stores raise their own
        raise PoolError(f"{address} cannot be opened: {error}.") from error


def temporary_file() -> BinaryIO:
    """An unnamed file that is deleted when it is closed."""
    return tempfile.TemporaryFile(prefix="thresher-")


def _open_local(path: str) -> BinaryIO:
    try:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise PoolError(
                f"{path} is not a plain file: a pool is read more than once. Save it to a file "
                "first."
            )
        return open(path, "rb")
    except FileNotFoundError:
        raise _missing_file(path) from None
    except (OSError, ValueError) as error:
        raise PoolError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error


def _download(address: str) -> BinaryIO:
    fs, inner = open_filesystem(address)
    copy = temporary_file()

    def download() -> None:
        copy.seek(0)
        copy.truncate()
        with fs.open(inner, "rb") as file:
            shutil.copyfileobj(file, copy, _BLOCK)

    try:
        retried(download, address)
    except Exception as error:  # each store raises its own: no such key, no credentials, no network
        copy.close()
        raise _unreadable_remote(address, error) from error
    copy.flush()
    copy.seek(0)
    return copy


def _decompress(file: BinaryIO, path: str) -> BinaryIO:
    copy = temporary_file()
    try:
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as packed:
            shutil.copyfileobj(packed, copy, _BLOCK)
    except EOFError:
        copy.close()
        raise PoolError(
            f"{path} is cut off: its gzip stream ends early. Download or write the file again."
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        copy.close()
        raise PoolError(
            f"{path} is a damaged gzip file: {error}. Download or write the file again."
        ) from error
    except OSError as error:
        copy.close()
        raise PoolError(
            f"{path} cannot be unpacked into {Path(tempfile.gettempdir())}: "
            f"{error.strerror or error}. Free some space there, set TMPDIR to another folder, or "
            "unpack the file yourself."
        ) from error
    copy.flush()
    copy.seek(0)
    return copy


def _unreadable_remote(address: str, error: Exception) -> PoolError:
    return PoolError(
        f"{address} cannot be read: {str(error) or type(error).__name__}. Check the address and "
        "your credentials."
    )


def no_answer(address: str, error: Exception) -> PoolError:
    """The error for a server that was waited for in vain.

    Arguments:
        address: that was read.
        error: of the last try.
    """
    return PoolError(
        f"{address} does not answer: {reason_of(error)}. What was scored is stored: run the same "
        "command again when the server is back."
    )


def _missing_file(path: str) -> PoolError:
    return PoolError(
        f"{path} does not exist. Give a file, a folder or a pattern such as 'shards/*.tar'."
    )
