"""The store: columns of numbers that models said about samples, kept so that nothing is paid for twice.

    root/columns/<fingerprint>/part-<uuid>.parquet    key (32 bytes), error ("" = fine), one column a field; when it was
                                                      written stands in the file (schema metadata `written`, ns)
    root/columns/<fingerprint>/signal.json            what the fingerprint is, in words
    root/columns/<fingerprint>/cost-<uuid>.json       what scoring took: {"rows": m, "seconds": s}, one file a run
    root/models/<fingerprint>/                        models that thresher trained for a signal (`training.registry`)
    root/pools/                                       parsed pools (`open_pool(cache=store.root / "pools")`)

    root/claims/                                      which rows are being scored now, and by whom (`claims`)

A part is written to a temporary name and renamed: if it exists, it is complete. Any number of processes may read and
write at once without locks; the worst that a race or a kill can leave is the same row twice, which is harmless. "What
is missing" is a set difference on keys. May touch files under its root only; knows nothing of models or pools.

Past 400 lines because what makes a part safe (write, read, set aside, merge) has to be read together.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from thresher.errors import ConfigError, StoreError
from thresher.fingerprint import canonical, fingerprint
from thresher.storage.atomic import replacing, sweep, temporary
from thresher.types import DIGEST, Field, Signal

MERGE_ABOVE = 64  # parts of one fingerprint; more would make every load open many small files
PROBE_BYTES = 4096  # one block of most file systems
SMALL_PART = 64 << 20  # bytes; larger parts are left alone by a merge, so that growing stays linear
WRITTEN = b"written"  # schema metadata of a part: time.time_ns(); parts without it count as oldest


class DamagedPart(UserWarning):
    """A part could not be read and was set aside; its rows count as missing again."""


class Store:
    """Columns under `root`. Creating the object touches nothing on disk.

    `damaged`: the parts that this object has set aside so far (their new names).
    """

    def __init__(self, root: str | Path) -> None:
        if "://" in str(root):
            raise StoreError(f"--store {root}: only folders of this machine can be a store so far. Give a local path.")
        self.root = Path(root)
        self.damaged: list[Path] = []

    def check(self, writes: bool = True) -> None:
        """Make the root and try it, before anything is spent. `writes`: something will have to be kept; else only make
        sure that it can be a folder.

        Raises ConfigError where it cannot be a folder, StoreError where it cannot be written to (permission, full disk).
        """
        for place in (self.root, *self.root.parents):
            if _is_there(place):
                if not place.is_dir():
                    what = "is a file" if place == self.root else f"cannot be a folder: {place} is a file"
                    raise ConfigError(f"--store {self.root} {what}. Give a folder; it is made when it does not exist.")
                break
        if not writes:
            return
        probe = temporary(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                with open(probe, "xb") as f:  # an empty file may fit on a full disk, a block does not
                    f.write(bytes(PROBE_BYTES))
                    f.flush()
                    os.fsync(f.fileno())
            finally:
                probe.unlink(missing_ok=True)
        except OSError as e:
            raise StoreError(
                f"--store {self.root} cannot be written to: {_why(e)}. Make room or give a folder you may write to."
            ) from e

    def folder(self, fp: str) -> Path:
        """Where the parts of one fingerprint lie."""
        return self.root / "columns" / fp

    def parts(self, fp: str) -> list[Path]:
        """The complete parts of a fingerprint, by name. Raises StoreError when the folder cannot be listed."""
        try:
            with os.scandir(self.folder(fp)) as entries:
                names = [e.name for e in entries if e.name.startswith("part-") and e.name.endswith(".parquet")]
        except FileNotFoundError:
            return []
        except OSError as e:
            raise StoreError(f"The store's folder {self.folder(fp)} cannot be read: {e.strerror}.") from e
        return [self.folder(fp) / name for name in sorted(names)]

    def describe(self, signal: Signal) -> str:
        """Write `signal.json` unless it is there, remove stale temporary files, and return the fingerprint."""
        fp = fingerprint(signal)
        path = self.folder(fp) / "signal.json"
        self._sweep(fp)
        if not path.exists():
            words = {
                "fingerprint": fp,
                "what": f"columns of the signal {signal.kind!r}: one row a sample; `error` is empty where scored",
                "key": "32 bytes: the sample's digest, or sha256(digest + input values) where the signal has inputs",
                "kind": signal.kind,
                "version": signal.version,
                "fields": {f.name: {"dtype": f.dtype, "meaning": f.meaning} for f in signal.fields},
                "identity": canonical(signal),
            }
            self._publish(path, (json.dumps(words, indent=2, ensure_ascii=False) + "\n").encode())
        return fp

    def append(
        self,
        fp: str,
        fields: Sequence[Field],
        keys: np.ndarray,
        values: Mapping[str, np.ndarray],
        errors: Sequence[str],
    ) -> None:
        """Store rows: `keys` DIGEST [m], `values` field -> array [m] (ignored where `errors[i]` is not empty).

        Raises StoreError (disk full, no permission) with the path; what was stored before stays valid.
        """
        if not len(keys):
            return
        failed = np.fromiter((e != "" for e in errors), dtype=bool, count=len(keys))
        columns = {"key": pa.array(_raw(keys), pa.binary(32)), "error": pa.array(errors, pa.string())}
        for f in fields:
            columns[f.name] = _to_arrow(np.asarray(values[f.name]), failed, f)
        self._write_part(fp, pa.table(columns), time.time_ns())
        parts = self.parts(fp)
        if len(parts) > MERGE_ABOVE:
            try:
                self._merge(fp, fields, parts)
            except StoreError as e:  # the rows are safe already; a disk too full for a merge is no reason to stop
                warnings.warn(f"Small parts were not merged: {e}", stacklevel=2)

    def note_cost(self, fp: str, rows: int, seconds: float) -> None:
        """Remember that scoring `rows` rows took `seconds`, so that a later run that reuses them can say what they cost."""
        if rows:
            text = json.dumps({"rows": rows, "seconds": round(seconds, 4)})
            self._publish(self.folder(fp) / f"cost-{uuid.uuid4().hex}.json", text.encode())

    def cost(self, fp: str) -> float:
        """Seconds that one row took when it was scored, on average; 0.0 where nothing was noted."""
        rows, seconds = 0, 0.0
        for path in sorted(self.folder(fp).glob("cost-*.json")):
            try:
                noted = json.loads(path.read_bytes())
                rows, seconds = rows + int(noted["rows"]), seconds + float(noted["seconds"])
            except (OSError, ValueError, KeyError, TypeError) as e:
                warnings.warn(f"{path} is damaged and was not counted: {e}", DamagedPart, stacklevel=2)
        return seconds / rows if rows else 0.0

    def load(
        self, fp: str, fields: Sequence[Field], keys: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """What is stored for `keys` (DIGEST [m], any order, repeats allowed).

        Returns (values: field -> array [m]; errors: object [m] of str; found: bool [m]). Where `found` is false or the
        error is not empty, values are zeros (NaN in float fields). A key that stands in several parts gives a success
        rather than an error; of several errors the newest; of several successes the same one whatever the parts are
        called.
        Raises StoreError for a part whose columns disagree with `fields`.
        """
        tables = self._read_all(fp, fields)
        m = len(keys)
        values = {f.name: _blank(m, f) for f in fields}
        errors = np.full(m, "", dtype=object)
        found = np.zeros(m, dtype=bool)
        if not tables or not m:
            return values, errors, found
        table = pa.concat_tables(tables)
        stored = _keys(table["key"])
        error = table["error"]
        columns = {f.name: _to_numpy(table[f.name], f) for f in fields}
        order = _first_of_each(stored, error, columns, _ages(tables))
        ordered = stored[order]
        wanted = np.argsort(keys, kind="stable")  # searching in sorted order is 30 times faster: the cache
        sorted_keys = keys[wanted]
        at = np.minimum(np.searchsorted(ordered, sorted_keys), len(ordered) - 1)
        hit = ordered[at] == sorted_keys
        here, there = wanted[hit], order[at[hit]]
        found[here] = True
        for name, column in columns.items():
            values[name][here] = column[there]
        bad = _has_error(error)
        if bad.any():
            texts = np.full(len(bad), "", dtype=object)
            texts[bad] = error.filter(pa.array(bad)).to_pylist()
            errors[here] = texts[there]
            for f in fields:
                values[f.name][here[bad[there]]] = _blank(1, f)[0]
        return values, errors, found

    def fresh(self, fp: str, seen: set[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(keys: DIGEST [m], whether each succeeded: bool [m]) of each part whose name is not `seen`; they are then.

        A part that is damaged says nothing here: `load` sets it aside.
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
            out.append((_keys(table["key"]), ~_has_error(table["error"])))
        return out

    # ------------------------------------------------------------------------------------------ files

    def _write_part(self, fp: str, table: pa.Table, written: int) -> Path:
        table = table.replace_schema_metadata({WRITTEN: str(written).encode()})
        sink = pa.BufferOutputStream()
        # checksums: without them a flipped bit inside a page would come back as a wrong number
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        path = self.folder(fp) / f"part-{uuid.uuid4().hex}.parquet"
        self._publish(path, sink.getvalue())
        return path

    def _publish(self, path: Path, data: bytes | pa.Buffer) -> None:
        """Write under a temporary name, flush to the disk, rename."""
        try:
            with replacing(path) as aside, open(aside, "wb") as f:
                f.write(data)
        except OSError as e:
            why = _why(e)
            raise StoreError(
                f"Scores could not be written to {path}: {why}. What was stored before is valid: make room or give "
                "another --store, and run the same command again to go on."
            ) from e

    def _sweep(self, fp: str) -> None:
        """Remove temporary files that a killed writer left."""
        sweep(self.folder(fp))

    def _read_all(self, fp: str, fields: Sequence[Field]) -> list[pa.Table]:
        """All parts. A part that vanishes was merged: its merged part is found by listing again."""
        seen: dict[Path, pa.Table | None] = {}
        while fresh := [p for p in self.parts(fp) if p not in seen]:
            for path in fresh:
                seen[path] = self._read(path, fields)
        return [t for _, t in sorted(seen.items()) if t is not None]

    def _read(self, path: Path, fields: Sequence[Field]) -> pa.Table | None:
        """One part, or None when it is gone or damaged (then it is set aside)."""
        try:
            # into Arrow's own memory: Arrow's threads may let go of it after Python has ended, and a Python object would then
            # abort the process
            with pa.OSFile(str(path)) as file:
                data = file.read_buffer()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StoreError(f"The store's part {path} cannot be read: {e.strerror or e}.") from e
        try:
            table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
            table.validate()
        except pa.ArrowMemoryError:
            raise  # a MemoryError: it says nothing about the part, whose rows are fine
        except (pa.ArrowException, OSError) as e:
            self._set_aside(path, str(e))
            return None
        _check_columns(path, table, fields)
        return table

    def _set_aside(self, path: Path, why: str) -> None:
        aside = path.with_suffix(".damaged")
        try:
            os.replace(path, aside)
        except FileNotFoundError:
            return  # another reader was faster
        except OSError as e:
            raise StoreError(f"The store's part {path} is damaged and cannot be renamed: {e.strerror}.") from e
        self.damaged.append(aside)
        first = why.splitlines()[0] if why else "unreadable"
        warnings.warn(
            f"The store's part {path} is damaged ({first}); renamed to {aside.name}, its rows are scored again.",
            DamagedPart,
            stacklevel=2,
        )

    def _merge(self, fp: str, fields: Sequence[Field], parts: Sequence[Path]) -> None:
        """Many small parts into one, as new as the newest of them. The old go only after the merged one stands: a kill
        leaves duplicates at worst."""
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
        columns = {f.name: _to_numpy(table[f.name], f) for f in fields}
        keep = _first_of_each(_keys(table["key"]), table["error"], columns, _ages(each))
        self._write_part(fp, table.take(pa.array(keep)).combine_chunks(), max(_written(t) for t in each))
        for p in tables:
            p.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- rows and columns


def _first_of_each(
    keys: np.ndarray, error: pa.ChunkedArray, columns: Mapping[str, np.ndarray], written: np.ndarray
) -> np.ndarray:
    """Row numbers, one a distinct key, sorted by key: a success before an error, a newer error before an older one
    (the reason may have changed), then by content, not by file. `written`: int64 [n], when each row was written."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.r_[True, ordered[1:] != ordered[:-1]]
    if new.all():
        return order
    slots = np.flatnonzero(~new | np.r_[~new[1:], False])  # where a key stands several times: usually few
    rows = order[slots]
    bad = _has_error(error)[rows]
    texts = np.zeros(len(rows), np.int64)
    texts[bad] = _ranks(np.array(error.take(pa.array(rows[bad])).to_pylist(), dtype=object))
    contents = [_ranks(c[rows]) if c.dtype == object else c[rows] for c in columns.values()]
    newest = np.where(bad, -written[rows], 0)  # successes are chosen by content: any writer got the same numbers
    order[slots] = rows[np.lexsort((*contents, texts, newest, bad, keys[rows]))]
    return order[new]


def _written(table: pa.Table) -> int:
    """When the part was written, ns; 0 where it does not say."""
    return int((table.schema.metadata or {}).get(WRITTEN, b"0"))


def _ages(tables: Sequence[pa.Table]) -> np.ndarray:
    """int64 [n]: when each row of the tables, one after the other, was written."""
    return np.repeat(np.array([_written(t) for t in tables], np.int64), [t.num_rows for t in tables])


def _why(error: OSError) -> str:
    """In words; the several ways in which a disk says that it is full are one."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "the disk is full" if full else error.strerror or str(error)


def _is_there(path: Path) -> bool:
    """Whether something stands at `path`; a folder that may not be looked into says no."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _ranks(texts: np.ndarray) -> np.ndarray:
    """Texts as numbers in the same order."""
    return np.unique(texts, return_inverse=True)[1]


def _has_error(error: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.not_equal(error, ""), dtype=bool)


def _raw(keys: np.ndarray) -> pa.Array:
    data = np.ascontiguousarray(keys, dtype=DIGEST)
    return pa.Array.from_buffers(pa.binary(32), len(data), [None, pa.py_buffer(data.tobytes())])


def _keys(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size binary column -> DIGEST [n]."""
    chunks = [_fixed_bytes(c, 32) for c in column.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, DIGEST)


def _fixed_bytes(chunk: pa.Array, width: int) -> np.ndarray:
    buffer = chunk.buffers()[1]
    if buffer is None:
        return np.zeros(len(chunk), f"S{width}")
    return np.frombuffer(buffer, dtype=f"S{width}", count=len(chunk), offset=chunk.offset * width)


def _arrow_type(f: Field) -> pa.DataType:
    """float32, int32, bool, …; `S32` = fixed bytes; `str` = text."""
    if f.dtype == "str":
        return pa.string()
    dtype = np.dtype(f.dtype)
    if dtype.kind == "S":
        return pa.binary(dtype.itemsize)
    if dtype.kind not in "biuf":
        raise StoreError(f"Field {f.name!r} has dtype {f.dtype!r}; the store keeps numbers, bool, S<n> and str.")
    return pa.from_numpy_dtype(dtype)


def _blank(m: int, f: Field) -> np.ndarray:
    """What stands where there is no value."""
    if f.dtype == "str":
        return np.full(m, "", dtype=object)
    dtype = np.dtype(f.dtype)
    return np.full(m, np.nan, dtype) if dtype.kind == "f" else np.zeros(m, dtype)


def _to_arrow(array: np.ndarray, failed: np.ndarray, f: Field) -> pa.Array:
    """Field values with nulls where the row failed."""
    kind = _arrow_type(f)
    if f.dtype == "str":
        return pa.array(array.tolist(), kind, mask=failed)
    array = np.ascontiguousarray(array, dtype=f.dtype)
    if np.dtype(f.dtype).kind == "S":
        width = np.dtype(f.dtype).itemsize
        raw = array.tobytes()
        return pa.array([raw[i * width : (i + 1) * width] for i in range(len(array))], kind, mask=failed)
    return pa.array(array, kind, mask=failed)


def _to_numpy(column: pa.ChunkedArray, f: Field) -> np.ndarray:
    """An Arrow column -> array [n]; nulls become blanks."""
    if f.dtype == "str":
        return np.array(column.fill_null("").to_pylist(), dtype=object)
    dtype = np.dtype(f.dtype)
    if dtype.kind == "S":
        out = np.concatenate([_fixed_bytes(c, dtype.itemsize) for c in column.chunks] or [np.zeros(0, dtype)])
        return np.where(np.asarray(column.is_null(), dtype=bool), np.zeros(1, dtype), out)
    blank = False if dtype.kind == "b" else 0
    null = np.asarray(column.is_null(), dtype=bool) if column.null_count else None
    array = np.asarray(column.fill_null(pa.scalar(blank, column.type)) if null is not None else column).astype(dtype)
    if null is not None:
        array[null] = _blank(1, f)[0]
    return array


def _check_columns(path: Path, table: pa.Table, fields: Sequence[Field]) -> None:
    expected = {"key": pa.binary(32), "error": pa.string()} | {f.name: _arrow_type(f) for f in fields}
    given = dict(zip(table.schema.names, table.schema.types, strict=True))
    if given == expected:
        return
    differ = sorted(n for n in given.keys() | expected.keys() if given.get(n) != expected.get(n))
    what = ", ".join(f"{n}: {given.get(n, 'absent')} in the file, {expected.get(n, 'absent')} expected" for n in differ)
    raise StoreError(
        f"Column conflict in the store's part {path}: {what}. It was written by another version of this signal. "
        "Delete the folder it is in to score those rows again, or give another --store."
    )
