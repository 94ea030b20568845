"""What is in a store: columns, trained models, caches, and leftovers that nothing uses any more.

Reads file sizes, `signal.json` and the footers of parts. Changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from thresher.errors import StoreError
from thresher.storage.atomic import PREFIX, is_orphan
from thresher.storage.claims import dead_claims
from thresher.text import parse_json

DAY = 86_400.0  # seconds
UNFINISHED = "the training was interrupted, and nothing was written to it for {} days"


@dataclass(frozen=True)
class StoredColumn:
    """One signal's column.

    fingerprint: the name of its folder.
    kind: the signal's kind; "" if `signal.json` is missing or unreadable.
    version: the signal's version; None if it is unknown.
    model: the model that was asked; "" for a signal that asks none.
    rows: stored rows; a row that two processes stored counts twice.
    size: bytes.
    written: time of the last write, seconds since the epoch.
    """

    fingerprint: str
    kind: str
    version: int | None
    model: str
    rows: int
    size: int
    written: float


@dataclass(frozen=True)
class StoredModel:
    """A model that thresher trained. `rows`: of its training; None while it is unfinished."""

    fingerprint: str
    base: str
    rows: int | None
    size: int
    written: float


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing uses any more. `reason`: why, as text."""

    path: Path
    size: int
    reason: str


def columns(root: Path) -> list[StoredColumn]:
    """The columns of a store, the largest first. Raises StoreError."""
    found = [_column(folder) for folder in _folders(root / "columns")]
    return sorted(found, key=lambda c: (-c.size, c.fingerprint))


def models(root: Path) -> list[StoredModel]:
    """The trained models of a store, the largest first. Raises StoreError."""
    found = []
    for folder in _folders(root / "models"):
        if _has_only_hashes(folder):
            continue
        record = _json(folder.with_name(f"{folder.name}.json"))
        rows = record.get("rows")
        size, written = usage(folder)
        base = str(record.get("base", ""))
        found.append(
            StoredModel(folder.name, base, rows if isinstance(rows, int) else None, size, written)
        )
    return sorted(found, key=lambda m: (-m.size, m.fingerprint))


def _has_only_hashes(folder: Path) -> bool:
    """Whether a folder is the cache of hashes of models' files, which is next to the models."""
    names = [entry.name for entry in _entries(folder)]
    return bool(names) and all(name.endswith(".hashes") for name in names)


def sizes(root: Path) -> dict[str, int]:
    """Bytes of each part of a store: columns, models, pools (caches of parsed pools), other."""
    total = {"columns": 0, "models": 0, "pools": 0, "other": 0}
    for entry in _entries(root):
        name = entry.name if entry.name in total else "other"
        total[name] += usage(Path(entry.path))[0]
    return total


def leftovers(
    root: Path,
    versions: Mapping[str, int],
    *,
    older_than: float | None = None,
    clock: Callable[[], float] = time.time,
) -> list[Leftover]:
    """What can be deleted without loss, the largest first.

    Always: temporary files of dead processes, claims of dead processes, damaged parts that were
    renamed, and columns of earlier versions of a signal, whose scores are never read again.

    Arguments:
        root: the store's folder.
        versions: kind -> current version. Columns of other kinds (plug-ins) are left alone.
        older_than: days; also columns, unfinished trainings, pool caches and estimates of `plan`
            that were not written to for so long. None: none of these.
        clock: the time now, in seconds since the epoch.

    Raises StoreError if a folder cannot be read.
    """
    limit = None if older_than is None else clock() - older_than * DAY
    days = f"{older_than:g}" if older_than is not None else ""
    found = []

    def add(path: Path, reason: str) -> None:
        found.append(Leftover(path, usage(path)[0], reason))

    for name in ("", "columns", "models", "pools", "plans", "claims"):
        _add_temporary(root / name, add)
    for path in dead_claims(root):
        add(path, "the claim of a process that has ended")
    for folder in _folders(root / "columns"):
        _add_temporary(folder, add)
        for damaged in sorted(folder.glob("*.damaged")):
            add(damaged, "a damaged part; its rows were scored again when they were needed")
        if reason := why_unused(_column(folder), folder, versions, limit, days):
            add(folder, reason)
    if limit is not None:
        for model in models(root):
            if model.rows is None and model.written < limit:
                add(root / "models" / model.fingerprint, UNFINISHED.format(days))
        for entry in _entries(root / "pools"):
            path = Path(entry.path)
            if usage(path)[1] < limit and not _is_temporary(path):
                add(path, f"the cache of a pool that was last read from its files {days} days ago")
        for entry in _entries(root / "plans"):
            path = Path(entry.path)
            if usage(path)[1] < limit and not _is_temporary(path):
                add(path, f"what plan estimated {days} days ago, for run.yaml")
    inside = {item.path for item in found}
    outer = [item for item in found if not inside & set(item.path.parents)]
    return sorted(outer, key=lambda item: (-item.size, str(item.path)))


def why_unused(
    column: StoredColumn, folder: Path, versions: Mapping[str, int], limit: float | None, days: str
) -> str:
    """Why a column can be deleted; "" if it cannot.

    Arguments:
        column: the column.
        folder: that holds its `signal.json`.
        versions: kind -> current version.
        limit: seconds since the epoch, before which an unused column was last written to; None:
            its age does not count.
        days: the age in words.
    """
    current = versions.get(column.kind)
    if current is not None and column.version is not None and column.version < current:
        return f"version {column.version} of {column.kind}; the current one is {current}"
    if "class" in _json(folder / "signal.json"):
        return "written by a release that identified signals in another way"
    if limit is not None and column.written < limit:
        return f"a column that nothing was written to for {days} days"
    return ""


def usage(path: Path) -> tuple[int, float]:
    """(bytes, time of the last write) of a file or a whole folder; what vanishes meanwhile counts
    0."""
    try:
        stat = path.lstat()
    except OSError:
        return 0, 0.0
    if not path.is_dir() or path.is_symlink():
        return stat.st_size, stat.st_mtime
    size, written = 0, 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                stat = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            size, written = size + stat.st_size, max(written, stat.st_mtime)
    return size, written or path.lstat().st_mtime


def _column(folder: Path) -> StoredColumn:
    rows = 0
    for part in sorted(folder.glob("part-*.parquet")):
        try:
            rows += pq.read_metadata(part).num_rows
        except (OSError, pa.ArrowException):
            continue  # merged meanwhile, or damaged: the next run that reads it renames it
    return described(folder, rows, *usage(folder))


def described(folder: Path, rows: int, size: int, written: float) -> StoredColumn:
    """A column with what its `signal.json` says.

    Arguments:
        folder: that holds the file.
        rows: of the column.
        size: bytes.
        written: time of the last write, seconds since the epoch.
    """
    found = _json(folder / "signal.json")
    kind, version = found.get("kind", ""), found.get("version")
    return StoredColumn(
        folder.name,
        str(kind),
        version if isinstance(version, int) else None,
        ", ".join(_models_in(found.get("identity"))),
        rows,
        size,
        written,
    )


def _models_in(identity: Any) -> list[str]:
    """The models inside a canonical identity, outermost first, as "architecture dtype digest"."""
    found: list[str] = []
    if isinstance(identity, dict):
        fields = identity.get("fields")
        if isinstance(fields, dict) and "weights" in fields:
            weights = str(fields["weights"]).removeprefix("sha256:")
            words = [fields.get("architecture"), fields.get("dtype"), weights[:8]]
            found.append(" ".join(str(word) for word in words if word))
        for value in identity.values():
            found += [m for m in _models_in(value) if m not in found]
    elif isinstance(identity, list):
        for value in identity:
            found += [m for m in _models_in(value) if m not in found]
    return found


def _add_temporary(folder: Path, add: Callable[[Path, str], None]) -> None:
    for entry in _entries(folder):
        path = Path(entry.path)
        if _is_temporary(path) and is_orphan(path):
            add(path, "a temporary file of a process that has ended")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(PREFIX)


def _folders(parent: Path) -> Iterator[Path]:
    for entry in _entries(parent):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder by name; none if it does not exist. Raises StoreError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise StoreError(f"The store's folder {folder} cannot be read: {e.strerror or e}.") from e


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
