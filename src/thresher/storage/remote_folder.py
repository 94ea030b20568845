"""A folder on a remote file system (`s3://bucket/prefix`, or any other protocol of fsspec), as a
store uses it: whole objects are written, read, listed and deleted, and retried while the server is
away.

Objects are named relative to the folder. Nothing is cached. Imports fsspec when a folder is opened.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from thresher.errors import ConfigError, MissingExtra, StoreError, reason_of
from thresher.storage.addresses import filesystem
from thresher.storage.remote_advice import ENDPOINT_VARIABLES, advice
from thresher.storage.retries import INVALID, may_pass, retried

THREADS = 8  # requests at once
_PASSWORD = re.compile(r"[^/]+://[^/@]*:[^/]*@")
# file systems in the memory of one process
ONE_PROCESS = ("memory",)
T = TypeVar("T")


class Entry(NamedTuple):
    """What a listing says about an object."""

    size: int  # bytes
    modified: float  # seconds since the epoch, by the server's clock
    tag: str  # changes with the content


class RemoteFolder:
    """A remote folder, which need not exist. Creating the object contacts no server.

    `address`: one spelling for all that name the same folder.

    Arguments:
        address: of the folder.

    Raises ConfigError for an address that names no folder, MissingExtra.
    """

    def __init__(self, address: str) -> None:
        if address.lower().startswith(("http://", "https://")):
            raise ConfigError(
                " is a web address, and a store is written to. Give a folder, or an address such "
                "as s3://BUCKET/PREFIX.",
                option="store",
                value=address,
            )
        if _PASSWORD.match(address):
            raise ConfigError(
                ": the address has a password in it, and addresses are written into run.yaml and "
                "messages. Give it in the file system's environment variables or in fsspec's "
                "configuration.",
                option="store",
            )
        try:
            self._fs, inner = filesystem(address, use_listings_cache=False)
        except MissingExtra:
            raise
        except Exception as error:  # an unknown protocol, or options that fsspec refuses
            raise ConfigError(
                f" cannot be opened: {reason_of(error)}. Give a folder, or an address such as "
                "s3://BUCKET/PREFIX.",
                option="store",
                value=address,
            ) from error
        self._base = re.sub("/{2,}", "/", inner).rstrip("/")
        if not self._base.strip("/") or any(p in (".", "..") for p in self._base.split("/")):
            raise ConfigError(
                " names no folder: expected an address such as s3://BUCKET/PREFIX.",
                option="store",
                value=address,
            )
        if hasattr(self._fs, "retries"):
            self._fs.retries = 1  # of s3fs, whose requests are retried here
        self.address = str(self._fs.unstrip_protocol(self._base))
        if self._fs._get_kwargs_from_urls(address):  # a host or an account, not part of the path
            scheme, _, rest = address.partition("://")
            self.address = f"{scheme.lower()}://{re.sub('/{2,}', '/', rest).rstrip('/')}"
        self._away = False  # whether the last request had no answer

    @property
    def shared(self) -> bool:
        """Whether other processes find here what this one writes."""
        return self.address.partition("://")[0] not in ONE_PROCESS

    @property
    def endpoint(self) -> str:
        """The server's address where it is not the protocol's usual one, else ""."""
        options = self._fs.storage_options
        given = options.get("endpoint_url") or (options.get("client_kwargs") or {}).get(
            "endpoint_url"
        )
        named = ENDPOINT_VARIABLES.get(self.address.partition("://")[0], ())
        return str(given or next(filter(None, map(os.environ.get, named)), ""))

    def check(self, writes: bool) -> None:
        """Test that the folder can be read or written. Raises StoreError at once where a server
        does not answer.

        Arguments:
            writes: write and delete an object; False lists the folder.
        """
        try:
            if writes:
                probe = self._path(f"probe-{uuid.uuid4().hex}")
                self._fs.pipe_file(probe, b"thresher")
                self._fs.rm_file(probe)
            else:
                self._fs.find(self._path("claims"))  # few objects
        except Exception as error:  # each file system raises its own
            if isinstance(error, FileNotFoundError) and not writes and not _of_bucket(error):
                return
            raise StoreError(
                f" cannot be {'written to' if writes else 'read'}: {_reason(error)}. "
                f"{advice(error, self.address)}",
                option="store",
                value=self.address,
            ) from error

    def now(self) -> float:
        """The time by the server's clock, seconds since the epoch. Writes an object and deletes it.
        Raises StoreError."""
        name = f"probe-{uuid.uuid4().hex}"
        self.write(name, b"thresher")
        written = self._try("read", lambda: _entry(self._fs.info(self._path(name)))).modified
        self.delete([name])
        return written

    def exists(self) -> bool:
        """Whether anything is in the folder. Raises StoreError."""
        return bool(self.entries(""))

    def entries(self, prefix: str) -> dict[str, Entry]:
        """The objects below a folder, by name. Raises StoreError.

        Arguments:
            prefix: a folder in this one; "": this one.
        """
        path = self._path(prefix).rstrip("/")
        try:
            found = self._try("listed", lambda: self._fs.find(path, detail=True))
        except FileNotFoundError as error:
            if _of_bucket(error):  # a store whose bucket vanished is not an empty one
                raise self._failed("listed", error) from error
            return {}
        start = len(self._base) + 1
        return {path[start:]: _entry(info) for path, info in found.items()}

    def read(self, name: str) -> bytes | None:
        """The content of an object; None if there is none. Raises StoreError."""
        try:
            return bytes(self._try("read", lambda: self._fs.cat_file(self._path(name))))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes, patient: bool = True) -> None:
        """Write an object at once: nobody sees a part of it. Raises StoreError.

        Arguments:
            name: of the object, which may exist.
            data: its content.
            patient: whether to retry.
        """
        try:
            self._try("written", lambda: self._fs.pipe_file(self._path(name), data), patient)
        except (FileNotFoundError, FileExistsError) as error:
            raise self._failed("written", error) from error

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if there is none of that name; whether it was written. Raises StoreError.

        Of several processes that create one object, one succeeds. On servers that do not know
        conditional writes, each does.

        Arguments:
            name: of the object.
            data: its content.
        """
        path = self._path(name)

        def create() -> bool:
            try:
                self._fs.pipe_file(path, data, mode="create")
            except OSError as error:
                if isinstance(error, FileExistsError) or _refused_condition(error):
                    return False
                if error.errno != errno.ENOSYS:
                    raise
                self._fs.pipe_file(path, data)  # a server without conditional writes
            return True

        try:
            return self._try("written", create)
        except FileNotFoundError as error:  # no bucket
            raise self._failed("written", error) from error

    def upload(self, files: Sequence[tuple[Path, str]]) -> None:
        """Write local files, several at once; those that no longer exist are left out. Raises
        StoreError.

        Arguments:
            files: path and name of the object of each.
        """

        def put(path: Path, name: str) -> None:
            try:
                self._try("written", lambda: self._fs.put_file(str(path), self._path(name)))
            except FileNotFoundError as error:
                if path.exists():  # no bucket
                    raise self._failed("written", error) from error

        self._each(put, files)

    def download(self, name: str, target: Path, size: int) -> bool:
        """Write an object into a local file; False if there is no such object. Raises StoreError,
        OSError.

        Arguments:
            name: of the object.
            target: the file.
            size: of the object, bytes; if the file has another, it is downloaded again.
        """

        def get() -> None:
            self._fs.get_file(self._path(name), str(target))
            if target.stat().st_size != size:
                raise OSError(f"{name} arrived with {target.stat().st_size:,} of {size:,} bytes")

        try:
            self._try("read", get)
        except FileNotFoundError:
            return False
        return True

    def rows(self, names: Iterable[str]) -> list[int]:
        """Rows of Parquet objects, of which only the ends are read; 0 for one that cannot be."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        def count(name: str) -> int:
            try:
                with self._fs.open(self._path(name), "rb", block_size=1 << 16) as file:
                    return int(pq.read_metadata(file).num_rows)
            except (OSError, pa.ArrowException):
                return 0

        return self._each(count, [(name,) for name in names])

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, which need not exist. Raises StoreError."""

        def delete(name: str) -> None:
            try:
                self._try("deleted", lambda: self._fs.rm_file(self._path(name)))
            except FileNotFoundError:
                pass

        self._each(delete, [(name,) for name in names])

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _each(self, function: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
        if len(arguments) == 1:
            return [function(*arguments[0])]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda given: function(*given), arguments))

    def _try(self, what: str, request: Callable[[], T], patient: bool = True) -> T:
        """The result of a request, which is retried while the server does not answer. Raises
        FileNotFoundError and FileExistsError as they are, any other error as StoreError."""
        # a server that was waited for in vain is asked once, until it answers again
        patient = patient and not self._away
        try:
            result = retried(request, self.address, patient=patient)
        except (FileNotFoundError, FileExistsError):
            self._away = False
            raise
        except Exception as error:  # each file system raises its own
            self._away = may_pass(error) and (patient or self._away)
            raise self._failed(what, error) from error
        self._away = False
        return result

    def _failed(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"{self.address} could not be {what}: {_reason(error)}. {advice(error, self.address)}"
        )


def _reason(error: Exception) -> str:
    """`reason_of`; the last line of an error whose first is only a title."""
    if type(error).__name__ in INVALID:
        return str(error).strip().splitlines()[-1].rstrip(".")
    return reason_of(error)


def _of_bucket(error: Exception) -> bool:
    return "bucket" in str(error).lower()


def _refused_condition(error: OSError) -> bool:
    """Whether a server refused to write an object that exists (HTTP 412, or 409 during a race)."""
    response = getattr(error.__cause__, "response", None) or {}
    code = str((response.get("Error") or {}).get("Code", ""))
    return code in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def _entry(info: dict[str, Any]) -> Entry:
    keys = ("LastModified", "mtime", "updated", "last_modified", "created")
    time = next((info[key] for key in keys if info.get(key) is not None), 0.0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    if isinstance(time, datetime):
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    tag = next((str(info[key]) for key in ("ETag", "etag", "md5Hash") if info.get(key)), "")
    return Entry(int(info.get("size") or 0), float(time), tag or f"{info.get('size')}-{time}")
