"""The store: columns of model scores on disk, so that nothing is computed twice.

    root/columns/<fingerprint>/part-<uuid>.parquet    key (32 bytes), error ("" = scored), one
    column
                                                      per field; times: `write_times`
    root/columns/<fingerprint>/signal.json            readable description of the fingerprint
    root/columns/<fingerprint>/cost-<uuid>.json       {"rows": m, "seconds": s}, one file per run
    root/models/<fingerprint>/                        models trained for a signal
    root/pools/                                       index caches of parsed pools
    root/claims/                                      rows being scored now (`claims`)

A part is written atomically: if it exists, it is complete. Any number of processes may read and
write at once without locks; a race or a kill leaves at worst a duplicate row, which is harmless.
Missing rows are a set difference on keys. Touches only files under its root.

Past 400 lines because writing, reading, quarantining and merging parts belong together.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thresher.errors import ConfigError, StoreError, opt
from thresher.fingerprint import canonical, fingerprint
from thresher.storage.arrow_values import (
    blank,
    encoded_texts,
    from_digests,
    to_arrow,
    to_digests,
    to_numpy,
)
from thresher.storage.atomic import atomic_write, remove_stale, temporary_path
from thresher.storage.claims import Claims, RowClaims, claim_file
from thresher.storage.lock import file_lock
from thresher.storage.part_rows import (
    ascends,
    check_columns,
    deduplicate,
    plain_type,
    repeats,
    sorted_order,
)
from thresher.storage.writable import nearest_folder
from thresher.storage.write_times import metadata, row_times, write_time
from thresher.types import Field, Signal

if TYPE_CHECKING:
    from thresher.console.progress import Progress

MERGE_ABOVE = 64  # parts per fingerprint; more would make every load open many small files
PROBE_BYTES = 4096  # one block of most file systems
SMALL_PART = 64 << 20  # bytes; larger parts are not merged again, so that total writes stay linear
TEXTS_LIMIT = 8 << 20  # bytes of distinct texts in a part, such as words of skills, kept as such


class StoredKeys(NamedTuple):
    """The rows of one part: keys, DIGEST [m]; whether they were scored, bool [m]; and when they
    were written, time.time_ns(), int64 [m]."""

    keys: np.ndarray
    succeeded: np.ndarray
    written: np.ndarray


class DamagedPart(UserWarning):
    """A part could not be read and was renamed; its rows count as missing again."""


class Store:
    """Columns under `root`. Creating the object does not touch the disk.

    A subclass (`mirrored.MirroredStore`) keeps them elsewhere, too: what it overrides beside
    reading and writing is `publish`, `descriptions`, `claims`, `has_claim`, and, for trained
    models, `model_record`, `share_model` and `training_lock`.

    `damaged`: paths of the damaged parts that this object has renamed so far.
    """

    poll_seconds = 0.2  # how often the store may be read while other processes score

    def __init__(self, root: str | Path) -> None:
        if "://" in str(root):
            raise StoreError(
                " is an address, not a folder: `open_store` opens it.", option="store", value=root
            )
        self.root = Path(root)
        self.damaged: list[Path] = []

    @property
    def address(self) -> str:
        """What a user gives to open this store."""
        return str(self.root)

    @property
    def shared(self) -> bool:
        """Whether several processes can use it."""
        return True

    def exists(self) -> bool:
        """Whether anything has been stored."""
        return self.root.is_dir()

    def check(self, writes: bool = True) -> None:
        """Test that the root is writable, before any work is done. A root that does not exist is
        not created, so that a run that is refused afterwards leaves nothing behind: the nearest
        folder above it that exists is tested.

        `writes`: False only checks that the root could be a folder. Raises ConfigError if it cannot
        be a folder, StoreError if it cannot be written to (permission, full disk).
        """
        for place in (self.root, *self.root.parents):
            if _exists(place):
                if not place.is_dir():
                    what = (
                        "is a file"
                        if place == self.root
                        else (f"cannot be a folder: {place} is a file")
                    )
                    raise ConfigError(
                        f" {what}. Give a folder; it is created if it does not exist.",
                        option="store",
                        value=self.root,
                    )
                break
        if not writes:
            return
        try:
            probe = temporary_path(nearest_folder(self.root))
            try:
                # an empty file may fit on a full disk, a block does not
                with open(probe, "xb") as f:
                    f.write(bytes(PROBE_BYTES))
                    f.flush()
                    os.fsync(f.fileno())
            finally:
                probe.unlink(missing_ok=True)
        except OSError as e:
            raise StoreError(
                f" cannot be written to: {_reason(e)}. Make room or give a "
                "folder you may write to.",
                option="store",
                value=self.root,
            ) from e

    def folder(self, fp: str) -> Path:
        """The folder with the parts of one fingerprint."""
        return self.root / "columns" / fp

    def parts(self, fp: str) -> list[Path]:
        """The parts of a fingerprint, sorted by name. Raises StoreError if they cannot be
        listed."""
        return self._parts_here(fp)

    def _parts_here(self, fp: str) -> list[Path]:
        """The parts in the root."""
        try:
            with os.scandir(self.folder(fp)) as entries:
                names = [
                    e.name
                    for e in entries
                    if e.name.startswith("part-") and e.name.endswith(".parquet")
                ]
        except FileNotFoundError:
            return []
        except OSError as e:
            raise StoreError(
                f"The store's folder {self.folder(fp)} cannot be read: {e.strerror}."
            ) from e
        return [self.folder(fp) / name for name in sorted(names)]

    def register(self, signal: Signal) -> str:
        """Write `signal.json` if missing, delete stale temporary files; return the fingerprint."""
        fp = fingerprint(signal)
        path = self.folder(fp) / "signal.json"
        remove_stale(self.folder(fp))
        if not path.exists():
            words = {
                "fingerprint": fp,
                "what": (
                    f"columns of the signal {signal.kind!r}: one row a sample; `error` is empty "
                    "where scored"
                ),
                "key": (
                    "32 bytes: the sample's digest, or sha256(digest + input values) where the "
                    "signal has inputs"
                ),
                "kind": signal.kind,
                "version": signal.version,
                "fields": {f.name: {"dtype": f.dtype, "meaning": f.meaning} for f in signal.fields},
                "identity": canonical(signal),
            }
            self.write(path, (json.dumps(words, indent=2, ensure_ascii=False) + "\n").encode())
        return fp

    def append(
        self,
        fp: str,
        fields: Sequence[Field],
        keys: np.ndarray,
        values: Mapping[str, np.ndarray],
        errors: Sequence[str],
    ) -> None:
        """Store rows of one signal.

        Arguments:
            fp: the signal's fingerprint.
            fields: the signal's fields.
            keys: DIGEST [m], row keys.
            values: field name -> array [m]; ignored where `errors[i]` is not empty.
            errors: m texts, "" for a row that was scored.

        Raises StoreError (disk full, no permission); what was stored before stays valid.
        """
        if not len(keys):
            return
        failed = np.fromiter((e != "" for e in errors), dtype=bool, count=len(keys))
        columns = {
            "key": pa.array(from_digests(keys), pa.binary(32)),
            "error": pa.array(errors, pa.string()),
        }
        for f in fields:
            columns[f.name] = to_arrow(np.asarray(values[f.name]), failed, f)
        self._write_part(fp, pa.table(columns), time.time_ns())
        parts = self._parts_here(fp)
        if len(parts) > MERGE_ABOVE:
            try:
                self._merge(fp, fields, parts)
            except StoreError as e:  # the rows are stored already: a failed merge is not fatal
                warnings.warn(f"Small parts were not merged: {e}", stacklevel=2)

    def publish(self) -> None:
        """Make what was written since the last time visible to other processes, where it is not so
        at once. Raises StoreError; what was written stays valid and is published later."""

    def record_cost(self, fp: str, rows: int, seconds: float) -> None:
        """Record that scoring `rows` rows took `seconds`, for the cost report of later runs.

        Arguments:
            fp: fingerprint of the column.
            rows: number of rows that were scored; nothing is recorded for 0.
            seconds: that it took.
        """
        if rows:
            text = json.dumps({"rows": rows, "seconds": round(seconds, 4)})
            self.write(self.folder(fp) / f"cost-{uuid.uuid4().hex}.json", text.encode())

    def cost(self, fp: str) -> float:
        """Mean seconds per scored row; 0.0 if nothing was recorded."""
        rows, seconds = 0, 0.0
        for path in sorted(self.folder(fp).glob("cost-*.json")):
            try:
                entry = json.loads(path.read_bytes())
                rows, seconds = rows + int(entry["rows"]), seconds + float(entry["seconds"])
            except (OSError, ValueError, KeyError, TypeError) as e:
                warnings.warn(
                    f"{path} is damaged and was not counted: {e}", DamagedPart, stacklevel=2
                )
        return seconds / rows if rows else 0.0

    def load(
        self, fp: str, fields: Sequence[Field], keys: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Look up stored rows.

        Arguments:
            fp: the signal's fingerprint.
            fields: the signal's fields.
            keys: DIGEST [m], any order, repeats allowed.

        Returns (values, errors, found): field name -> array [m]; object [m] of str; bool [m]. Where
        a row is not found or has an error, values are 0 (NaN in float fields). If a key is in
        several parts, a success wins over an error, a newer error over an older one, and the choice
        among successes does not depend on the names of parts.

        Raises StoreError for a part whose columns do not match `fields`.
        """
        tables = self._read_all(fp, fields)
        m = len(keys)
        values = {f.name: blank(m, f) for f in fields}
        errors = np.full(m, "", dtype=object)
        found = np.zeros(m, dtype=bool)
        if not tables or not m:
            return values, errors, found
        table = pa.concat_tables(tables)
        stored = to_digests(table["key"])
        texts, codes = encoded_texts(table["error"])
        columns = {f.name: to_numpy(table[f.name], f) for f in fields}
        target: np.ndarray | slice
        origin: np.ndarray | slice
        if len(stored) == m and ascends(stored) and (stored == keys).all():
            target = origin = slice(None)  # a whole pool in one part: nothing to look up
        else:
            order = deduplicate(stored, (texts, codes), columns, row_times(tables))
            ordered = stored[order]
            # sorted queries are 30 times faster (CPU cache)
            query_order = sorted_order(keys)
            sorted_keys = keys[query_order]
            position = np.minimum(np.searchsorted(ordered, sorted_keys), len(ordered) - 1)
            hit = ordered[position] == sorted_keys
            target, origin = query_order[hit], order[position[hit]]
        found[target] = True
        for name, column in columns.items():
            values[name][target] = column[origin]
        bad = (texts != "")[codes]
        if bad.any():
            errors[target] = texts[codes[origin]]
            failed = errors != ""
            for f in fields:
                values[f.name][failed] = blank(1, f)[0]
        return values, errors, found

    def new_keys(self, fp: str, seen: set[str]) -> list[StoredKeys]:
        """The rows of each part not yet in `seen`, to which it is added.

        Damaged parts are skipped here; `load` renames them.

        Arguments:
            fp: fingerprint of the column.
            seen: names of the parts that were read before; changed in place.
        """
        out = []
        for path in self.parts(fp):
            if path.name in seen:
                continue
            seen.add(path.name)
            try:
                table = pq.ParquetFile(path, page_checksum_verification=True).read(["key", "error"])
            except (OSError, pa.ArrowException):
                continue
            texts, codes = encoded_texts(table["error"])
            written = row_times([table])
            out.append(StoredKeys(to_digests(table["key"]), (texts == "")[codes], written))
        return out

    def descriptions(self) -> list[Path]:
        """The file `signal.json` of every column, sorted."""
        return sorted((self.root / "columns").glob("*/signal.json"))

    # ------------------------------------------------------------------------- processes and models

    def claims(self, fingerprints: Sequence[str]) -> RowClaims:
        """This process's claims on rows, without any at first.

        Arguments:
            fingerprints: of the columns that are being scored.
        """
        return Claims(self.root, fingerprints)

    def has_claim(self, name: str) -> bool:
        """Whether the store holds a claim of this name: another process uses the same store."""
        return claim_file(self.root, name).exists()

    def model_record(self, fp: str) -> bytes | None:
        """What was recorded about a finished model whose folder still exists; None: there is none.

        Arguments:
            fp: fingerprint of the model.

        Raises StoreError if it cannot be read.
        """
        folder = self.root / "models" / fp
        try:
            return folder.with_name(f"{fp}.json").read_bytes() if folder.is_dir() else None
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StoreError(
                f"{folder}.json cannot be read: {e.strerror or e}. Delete it, and the model is "
                "trained again."
            ) from e

    def share_model(self, fp: str) -> None:
        """Bring a finished model into the folder `models` where it is kept elsewhere, and the other
        way round.

        Arguments:
            fp: fingerprint of the model.

        Raises StoreError.
        """

    def training_lock(
        self, fp: str, progress: Progress | None
    ) -> contextlib.AbstractContextManager[bool]:
        """A context in which no other process trains this model.

        Arguments:
            fp: fingerprint of the model.
            progress: receives a message while waiting.
        """
        path = (self.root / "models" / fp).with_suffix(".lock")
        return file_lock(path, "trains the same model", progress)

    # ---------------------------------------------------------------------------------------- files

    def _write_part(
        self, fp: str, table: pa.Table, written: int, failed_at: np.ndarray | None = None
    ) -> Path:
        """Write a part.

        Arguments:
            fp: fingerprint of the column.
            table: the rows.
            written: time of the part, ns.
            failed_at: as in `write_times.metadata`.
        """
        table = table.replace_schema_metadata(metadata(written, failed_at))
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            use_dictionary=[f.name for f in table.schema if repeats(f.type)],
            dictionary_pagesize_limit=TEXTS_LIMIT,
            # without checksums a flipped bit inside a page would be read as a wrong number
            write_page_checksum=True,
        )
        path = self.folder(fp) / f"part-{uuid.uuid4().hex}.parquet"
        self.write(path, sink.getvalue())
        return path

    def write(self, path: Path, data: bytes | pa.Buffer) -> None:
        """Write a file of a column atomically.

        Arguments:
            path: of the file, in the folder of a column.
            data: its content.

        Raises StoreError.
        """
        try:
            with atomic_write(path) as temporary, open(temporary, "wb") as f:
                f.write(data)
        except OSError as e:
            raise StoreError(
                f"Scores could not be written to {path}: {_reason(e)}. What was stored before is "
                f"valid: free some space or give another {opt('store')}, and run the same command "
                "again to resume."
            ) from e

    def _read_all(self, fp: str, fields: Sequence[Field]) -> list[pa.Table]:
        """All parts. Lists again until nothing is new: a part that vanished was merged into
        another.
        """
        seen: dict[Path, pa.Table | None] = {}
        while new := [p for p in self.parts(fp) if p not in seen]:
            for path in new:
                seen[path] = self._read(path, fields)
        return [t for _, t in sorted(seen.items()) if t is not None]

    def _read(self, path: Path, fields: Sequence[Field]) -> pa.Table | None:
        """One part, its texts dictionary-encoded; None if it no longer exists or is damaged (then
        it is renamed)."""
        try:
            # into Arrow's own memory: Arrow's threads may let go of it after Python has ended, and
            # a Python object would then abort the process
            with pa.OSFile(str(path)) as file:
                data = file.read_buffer()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StoreError(f"The store's part {path} cannot be read: {e.strerror or e}.") from e
        try:
            schema = pq.read_schema(pa.BufferReader(data))
            table = pq.ParquetFile(
                pa.BufferReader(data),
                read_dictionary=[f.name for f in schema if pa.types.is_string(f.type)],
                page_checksum_verification=True,
            ).read()
            table.validate()
        except pa.ArrowMemoryError:
            raise  # a MemoryError, not a damaged part
        except (pa.ArrowException, OSError) as e:
            self._quarantine(path, str(e))
            return None
        check_columns(path, table, fields)
        return table

    def _quarantine(self, path: Path, reason: str) -> None:
        aside = path.with_suffix(".damaged")
        try:
            os.replace(path, aside)
        except FileNotFoundError:
            return  # another reader was faster
        except OSError as e:
            raise StoreError(
                f"The store's part {path} is damaged and cannot be renamed: {e.strerror}."
            ) from e
        self.damaged.append(aside)
        first = reason.splitlines()[0] if reason else "unreadable"
        warnings.warn(
            f"The store's part {path} is damaged ({first}); renamed to {aside.name}, its rows are "
            "scored again.",
            DamagedPart,
            stacklevel=2,
        )

    def _merge(self, fp: str, fields: Sequence[Field], parts: Sequence[Path]) -> None:
        """Merge small parts into one with the write time of the newest; errors keep theirs.

        Old parts are deleted only after the merged one is written: a kill leaves duplicates at
        worst.
        """
        small: list[Path] = []
        for p in parts:
            try:
                if p.stat().st_size < SMALL_PART:
                    small.append(p)
            except FileNotFoundError:
                continue  # another process is merging too
        tables = {p: t for p in small if (t := self._read(p, fields)) is not None}
        if len(tables) < 2:
            return
        each = list(tables.values())
        table = pa.concat_tables(each)
        columns = {f.name: to_numpy(table[f.name], f) for f in fields}
        error, times = encoded_texts(table["error"]), row_times(each)
        keep = deduplicate(to_digests(table["key"]), error, columns, times)
        plain = pa.schema([pa.field(f.name, plain_type(f.type)) for f in table.schema])
        merged = table.take(pa.array(keep)).cast(plain).combine_chunks()
        texts, codes = error
        failed = keep[(texts != "")[codes[keep]]]  # rows of `table`, in the order of `merged`
        self._write_part(fp, merged, max(write_time(t) for t in each), times[failed])
        self._delete_merged(list(tables))

    def _delete_merged(self, parts: Sequence[Path]) -> None:
        """Delete parts whose rows are in a new one."""
        for p in parts:
            p.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    """The error's text, with one wording for the several "disk full" codes."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "the disk is full" if full else error.strerror or str(error)


def _exists(path: Path) -> bool:
    """Whether `path` exists; False for a path inside an unreadable folder."""
    try:
        path.lstat()
    except OSError:
        return False
    return True
