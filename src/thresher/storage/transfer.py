"""Columns of a store as one tar file, to be added to another store: on another machine, or of
somebody who scored the same pool.

The archive holds `columns/<fingerprint>/` as the store does. What is read from an archive is
checked before anything is written: names, fingerprints and the columns of every part.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thresher.errors import ConfigError, StoreError
from thresher.storage.atomic import atomic_write
from thresher.storage.columns import Store
from thresher.storage.names import MEMBER
from thresher.text import parse_json

LONGEST_JSON = 4 << 20  # bytes of a signal.json or cost file


@dataclass(frozen=True)
class Transfer:
    """What was written: columns, parts, and bytes. `known`: parts that were there already."""

    columns: int
    parts: int
    size: int
    known: int = 0


def export_columns(store: Store, target: Path, fingerprints: Collection[str]) -> Transfer:
    """Write columns of a store to the tar file `target`, atomically.

    Arguments:
        store: that holds the columns.
        target: the tar file to write.
        fingerprints: of the columns.

    Raises StoreError if a file cannot be read or written.
    """
    parts = size = 0
    try:
        with atomic_write(target) as temporary, tarfile.open(temporary, "w") as archive:
            for fp in sorted(fingerprints):
                store.parts(fp)  # brings them here if the store is remote
                for path in _files(store.folder(fp)):
                    try:
                        data, written = path.read_bytes(), int(path.stat().st_mtime)
                    except FileNotFoundError:
                        continue  # merged into another part, which is listed later
                    info = tarfile.TarInfo(f"columns/{fp}/{path.name}")
                    info.size, info.mtime = len(data), written
                    archive.addfile(info, io.BytesIO(data))
                    parts, size = parts + path.name.endswith(".parquet"), size + len(data)
    except OSError as e:
        raise StoreError(f"{target} cannot be written: {e.strerror or e}.") from e
    return Transfer(len(fingerprints), parts, size)


def _files(folder: Path) -> Iterator[Path]:
    """The files of a column, listed again until nothing is new: parts may be merged meanwhile."""
    seen: set[str] = set()
    while new := sorted({path.name for path in folder.iterdir()} - seen):
        seen.update(new)
        for name in new:
            if MEMBER.fullmatch(f"columns/{folder.name}/{name}"):
                yield folder / name


def import_columns(archive: Path, store: Store) -> Transfer:
    """Add the columns of a tar file that `export_columns` wrote to a store.

    The archive is checked whole before the first file is written. A part that the store has is
    left as it is; rows that both have are duplicates of one key, which the store allows.

    Arguments:
        archive: the tar file.
        store: that receives the columns.

    Raises ConfigError if the file is no such archive, StoreError if a part of it is damaged or
    cannot be written.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            names = _checked(tar, archive)
            columns = {name.split("/")[1] for name in names}
            for fp in columns:
                store.parts(fp)  # what is there, if the store is remote
            parts = size = known = 0
            for name in names:
                target = store.root / name
                if target.exists():
                    known += name.endswith(".parquet")
                    continue
                data = _read(tar, name)
                store.write(target, data)
                parts, size = parts + name.endswith(".parquet"), size + len(data)
            store.publish()
    except tarfile.TarError as e:
        raise ConfigError(
            f"{archive} is not a file that `thresher store export` wrote: {e}."
        ) from e
    except OSError as e:
        raise StoreError(f"{e.filename or archive}: {e.strerror or e}.") from e
    return Transfer(len(columns), parts, size, known)


def _checked(tar: tarfile.TarFile, archive: Path) -> list[str]:
    """The names in the archive, each of them read and found valid."""
    names: list[str] = []
    for member in tar:
        match = MEMBER.fullmatch(member.name)
        if match is None or not member.isfile():
            raise ConfigError(
                f"{archive} is not a file that `thresher store export` wrote: it holds "
                f"{member.name!r}."
            )
        data = _read(tar, member.name)
        where = f"{archive}: {member.name}"
        if match["file"].startswith("part-"):
            _check_part(data, where)
        elif match["file"] == "signal.json":
            _check_signal(data, match["column"], where)
        elif not isinstance(_parse(data, where), dict):
            raise StoreError(f"{where} is damaged: expected an object.")
        names.append(member.name)
    described = {name.split("/")[1] for name in names if name.endswith("signal.json")}
    for name in names:
        if name.split("/")[1] not in described:
            raise StoreError(f"{archive}: {name.rpartition('/')[0]} has no signal.json.")
    if not names:
        raise ConfigError(f"{archive} holds no columns.")
    # signal.json first: a column that is there can always be described
    return sorted(names, key=lambda name: (not name.endswith("signal.json"), name))


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None, f"{name} is a regular file"
    with file:
        return file.read()


def _check_signal(data: bytes, fp: str, where: str) -> None:
    """The fingerprint is the hash of the identity that the file states."""
    described = _parse(data, where)
    identity = described.get("identity") if isinstance(described, dict) else None
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if hashlib.sha256(text.encode()).hexdigest()[:32] != fp:
        raise StoreError(
            f"{where} does not describe the column it is beside: its fingerprint differs."
        )


def _check_part(data: bytes, where: str) -> None:
    try:
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as e:
        first = str(e).splitlines()[0] if str(e) else "unreadable"
        raise StoreError(f"{where} is damaged ({first}).") from e
    for name, type_ in (("key", pa.binary(32)), ("error", pa.string())):
        if name not in table.schema.names or table.schema.field(name).type != type_:
            raise StoreError(f"{where} is not a part of a column: no field {name} of {type_}.")


def _parse(data: bytes, where: str) -> Any:
    if len(data) > LONGEST_JSON:
        raise StoreError(f"{where} is damaged: {len(data):,} bytes.")
    try:
        return parse_json(data)
    except ValueError as e:
        raise StoreError(f"{where} is damaged: {e}.") from e
