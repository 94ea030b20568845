"""A store on a remote file system, with a local copy of what this machine has read or written.

    remote: columns/<fingerprint>/…, models/<fingerprint>/…, claims/…    as in a local store
    mirror: the same columns and models; index caches of pools and hashes of models, which stay
            local; unsent/<file>, an empty file for each one that is still to be uploaded

Files of a column never change and have unique names. So a file that is here and not there is either
still to be uploaded, or it was merged or deleted there and is deleted here. A file is marked in
`unsent` before it is written. Files are uploaded by `publish`; what it cannot upload is uploaded by
the next command that writes. Any number of processes may use one mirror.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from thresher.console.formatting import pluralize
from thresher.console.progress import Progress
from thresher.errors import ConfigError, Notice, StoreError
from thresher.storage.atomic import PREFIX, atomic_write, temporary_path, write_bytes
from thresher.storage.claims import DEAD_AFTER
from thresher.storage.columns import Store
from thresher.storage.lock import file_lock
from thresher.storage.names import MEMBER
from thresher.storage.remote_claims import RemoteClaims, claims_in, file_of
from thresher.storage.remote_folder import THREADS, Entry, RemoteFolder
from thresher.storage.remote_lock import RemoteLock
from thresher.types import Field

LISTINGS = 5  # of a column whose parts are merged while they are downloaded
MERGE_STALE = 60.0  # seconds after which the lock of a merge is that of a dead process


class _Vanished(Exception):
    """A file was merged or deleted since it was listed."""


class MirroredStore(Store):
    """A store at an address, with its mirror. Creating the object contacts no server.

    Arguments:
        remote: the store's folder.
        mirror: the local folder, which need not exist.
    """

    poll_seconds = 2.0

    def __init__(self, remote: RemoteFolder, mirror: Path) -> None:
        super().__init__(mirror)
        self.remote = remote
        self._written: set[Path] = set()  # by this object, and not uploaded yet

    @property
    def address(self) -> str:
        return self.remote.address

    @property
    def shared(self) -> bool:
        return self.remote.shared

    def exists(self) -> bool:
        return self.remote.exists()

    def check(self, writes: bool = True) -> None:
        """As `Store.check`; uploads what an earlier command could not."""
        self.remote.check(writes)
        try:
            super().check(writes)
        except ConfigError as e:
            raise self._no_room("it or a folder above it is a file") from e
        except StoreError as e:
            raise self._no_room(e.__cause__) from e
        # a mark without a file: its process is about to write it, or was killed before
        if writes and (left := [path for path in self._unsent() if path.exists()]):
            self._upload(left)
            warnings.warn(
                f"{pluralize(len(left), 'file')} that an earlier command had not uploaded "
                f"{'is' if len(left) == 1 else 'are'} in {self.address} now.",
                Notice,
                stacklevel=2,
            )

    def parts(self, fp: str) -> list[Path]:
        self._pull(fp)
        return super().parts(fp)

    def cost(self, fp: str) -> float:
        self._pull(fp)
        return super().cost(fp)

    def write(self, path: Path, data: bytes | pa.Buffer) -> None:
        marker = self._marker(path)
        write_bytes(marker, b"")
        self._written.add(path)
        super().write(path, data)

    def publish(self) -> None:
        self._upload(sorted(self._written))

    def descriptions(self) -> list[Path]:
        entries = {
            name: entry
            for name, entry in self.remote.entries("columns").items()
            if name.endswith("/signal.json") and MEMBER.fullmatch(name)
        }
        self._download({n: e for n, e in entries.items() if not (self.root / n).exists()})
        return sorted(path for name in entries if (path := self.root / name).exists())

    def claims(self, fingerprints: Sequence[str]) -> RemoteClaims:
        return RemoteClaims(self.remote, fingerprints)

    def has_claim(self, name: str) -> bool:
        return file_of(name) in claims_in(self.remote)

    # --------------------------------------------------------------------------------------- models

    def model_record(self, fp: str) -> bytes | None:
        here = super().model_record(fp)
        return self.remote.read(f"models/{fp}.json") if here is None else here

    def share_model(self, fp: str) -> None:
        folder, record = f"models/{fp}", f"models/{fp}.json"
        here, there = super().model_record(fp), self.remote.read(record)
        if here is None and there is not None:
            with file_lock(self.root / "models" / f"{fp}.copy.lock", "downloads the same model"):
                if super().model_record(fp) is None:
                    self._download_model(folder, there)
        elif here is not None and there is None:
            files = [
                (path, path.relative_to(self.root).as_posix())
                for path in sorted((self.root / folder).rglob("*"))
                if path.is_file() and not path.name.startswith((PREFIX, ".thresher"))
            ]
            self.remote.upload(files)
            self.remote.write(record, here)  # last: the model is complete

    def _download_model(self, folder: str, record: bytes) -> None:
        target = self.root / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(target.parent)
        try:
            for name, entry in self.remote.entries(folder).items():
                path = temporary.joinpath(*_relative(name, folder))
                path.parent.mkdir(parents=True, exist_ok=True)
                self.remote.download(name, path, entry.size)
            if target.exists():  # an interrupted training
                shutil.rmtree(target)
            temporary.rename(target)
        except OSError as e:
            raise StoreError(
                f"{target} cannot be written: {e.strerror or e}. Free some space and run the same "
                "command again."
            ) from e
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        write_bytes(target.with_name(f"{target.name}.json"), record)

    @contextlib.contextmanager
    def training_lock(self, fp: str, progress: Progress | None) -> Iterator[bool]:
        def waiting() -> None:
            if progress is not None:
                progress.say(
                    f"Waiting for another process that trains the same model, by "
                    f"{self.address}/{name}."
                )

        name = f"models/{fp}.lock"
        with (
            super().training_lock(fp, progress) as held,
            RemoteLock(self.remote, name, DEAD_AFTER).held(waiting=waiting),
        ):
            yield held

    # ------------------------------------------------------------------------------------- the copy

    def _pull(self, fp: str) -> None:
        """Make the mirror's column like the remote one, but for what is not uploaded yet."""
        for _ in range(LISTINGS):
            # In this order: a file that is uploaded meanwhile is either marked or listed.
            here = self._names(fp)
            unsent = {self._name(path) for path in self._unsent()}
            there = {
                name: entry
                for name, entry in self.remote.entries(f"columns/{fp}").items()
                if MEMBER.fullmatch(name)
            }
            complete = self._download({n: e for n, e in there.items() if n not in here})
            for name in here - unsent - there.keys():
                (self.root / name).unlink(missing_ok=True)
            if complete:
                return

    def _names(self, fp: str) -> set[str]:
        try:
            found = os.listdir(self.folder(fp))
        except FileNotFoundError:
            return set()
        except OSError as e:
            raise StoreError(
                f"The store's folder {self.folder(fp)} cannot be read: {e.strerror}."
            ) from e
        return {name for file in found if MEMBER.fullmatch(name := f"columns/{fp}/{file}")}

    def _download(self, entries: dict[str, Entry]) -> bool:
        """Bring files here. Returns whether all were still there."""

        def get(name: str, entry: Entry) -> bool:
            with contextlib.suppress(_Vanished), atomic_write(self.root / name) as path:
                if not self.remote.download(name, path, entry.size):
                    raise _Vanished  # leaves no file
                os.utime(path, (entry.modified, entry.modified))
                return True
            return False

        if not entries:
            return True
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                return all(list(pool.map(lambda item: get(*item), entries.items())))
        except OSError as e:
            raise self._no_room(e) from e

    def _no_room(self, error: object) -> StoreError:
        reason = getattr(error, "strerror", None) or error
        return StoreError(
            f"The local copy of {self.address}, {self.root}, cannot be written to: {reason}. Make "
            "room, or give another folder for such copies in the environment variable "
            "THRESHER_MIRRORS."
        )

    def _upload(self, paths: Collection[Path]) -> None:
        """Upload files, and remove their marks. A file that no longer exists was merged."""
        try:
            self.remote.upload([(path, self._name(path)) for path in paths if path.exists()])
        except StoreError as e:
            raise StoreError(
                f"{e.message} What was scored is kept in {self.root}; the next command that "
                "writes into this store uploads it."
            ) from e
        for path in paths:
            self._marker(path).unlink(missing_ok=True)
            self._written.discard(path)

    def _unsent(self) -> list[Path]:
        """Files that are still to be uploaded, sorted."""
        try:
            names = sorted(os.listdir(self.root / "unsent"))
        except FileNotFoundError:
            return []
        return [self.root / name.replace(",", "/") for name in names if not name.startswith(PREFIX)]

    def _marker(self, path: Path) -> Path:
        return self.root / "unsent" / self._name(path).replace("/", ",")

    def _name(self, path: Path) -> str:
        """The object of a file of the mirror."""
        return path.relative_to(self.root).as_posix()

    # ------------------------------------------------------------------------- merging and damage

    def _merge(self, fp: str, fields: Sequence[Field], parts: Sequence[Path]) -> None:
        lock = RemoteLock(self.remote, f"columns/{fp}/merge.lock", MERGE_STALE)
        with lock.held(timeout=0) as held:
            if held:  # else another process merges
                super()._merge(fp, fields, self.parts(fp))

    def _delete_merged(self, parts: Sequence[Path]) -> None:
        self.publish()  # the new part first
        self.remote.delete([self._name(path) for path in parts])
        super()._delete_merged(parts)

    def _read(self, path: Path, fields: Sequence[Field]) -> pa.Table | None:
        table = super()._read(path, fields)
        if table is None and path.exists():  # the copy was damaged, and was downloaded again
            return super()._read(path, fields)
        return table

    def _quarantine(self, path: Path, reason: str) -> None:
        """As in a local store, on both sides; if only the copy is damaged, downloads it again."""
        name = self._name(path)
        there = self.remote.read(name)
        with contextlib.suppress(OSError):
            if there is not None and path.read_bytes() != there:
                write_bytes(path, there)
                return
        super()._quarantine(path, reason)
        if there is not None:
            self.remote.write(name.removesuffix(".parquet") + ".damaged", there)
            self.remote.delete([name])


def _relative(name: str, folder: str) -> list[str]:
    """The path of an object inside a folder. Raises StoreError if it leaves the folder."""
    parts = name.removeprefix(f"{folder}/").split("/")
    if any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise StoreError(f"The store holds an object whose name is no path: {name!r}.")
    return parts
