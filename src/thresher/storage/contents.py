"""What is in a store, in a folder (`inventory`) or at an address: columns, sizes, leftovers.

At an address, sizes and times are those of a listing, and of parts that are not in the mirror only
the ends are read. Changes nothing but by `delete`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from thresher.storage import inventory
from thresher.storage.atomic import remove
from thresher.storage.claims import decode
from thresher.storage.columns import Store
from thresher.storage.inventory import DAY, Leftover, StoredColumn
from thresher.storage.mirrored import MirroredStore
from thresher.storage.remote_claims import claims_in, is_dead
from thresher.storage.remote_folder import Entry

LOCK_DAYS = 1.0  # after which a lock is that of a dead process


def columns(store: Store) -> list[StoredColumn]:
    """The columns, the largest first. Raises StoreError.

    Arguments:
        store: the store.
    """
    if not isinstance(store, MirroredStore):
        return inventory.columns(store.root)
    found = [
        inventory.described(store.folder(fp), _rows(store, entries), *_usage(entries))
        for fp, entries in _columns(store).items()
    ]
    return sorted(found, key=lambda c: (-c.size, c.fingerprint))


def sizes(store: Store) -> dict[str, int]:
    """Bytes of each part of a store, as `inventory.sizes`, and at an address of its local copy
    (mirror). Raises StoreError.

    Arguments:
        store: the store.
    """
    if not isinstance(store, MirroredStore):
        return inventory.sizes(store.root)
    total = {"columns": 0, "models": 0, "other": 0}
    for name, entry in store.remote.entries("").items():
        top = name.partition("/")[0]
        total[top if top in total else "other"] += entry.size
    return total | {"mirror": inventory.usage(store.root)[0]}


def leftovers(
    store: Store, versions: Mapping[str, int], *, older_than: float | None = None
) -> list[Leftover]:
    """What can be deleted without loss, as `inventory.leftovers`. Raises StoreError.

    Arguments:
        store: the store.
        versions: kind -> current version.
        older_than: days; None: no age counts.
    """
    local = inventory.leftovers(store.root, versions, older_than=older_than)
    if not isinstance(store, MirroredStore):
        return local
    # whether a column is used is asked of the remote store, which others write to
    folders = store.root / "columns"
    found = {item.path: item for item in local if item.path.parent != folders}
    now = time.time()
    limit = None if older_than is None else now - older_than * DAY
    days = "" if older_than is None else f"{older_than:g}"
    for fp, entries in _columns(store).items():
        folder = store.folder(fp)
        size, written = _usage(entries)
        column = inventory.described(folder, 0, size, written)
        if reason := inventory.why_unused(column, folder, versions, limit, days):
            found[folder] = Leftover(folder, size, reason)
            continue
        for name, entry in entries.items():
            path = store.root / name
            if name.endswith(".damaged"):
                text = "a damaged part; its rows were scored again when they were needed"
                found[path] = Leftover(path, entry.size, text)
    for path in _dead(store):
        found[path] = Leftover(path, 0, "the claim or lock of a process that has ended")
    inside = [item for item in found.values() if not found.keys() & set(item.path.parents)]
    return sorted(inside, key=lambda item: (-item.size, str(item.path)))


def delete(store: Store, item: Leftover) -> None:
    """Delete a leftover. Raises OSError, StoreError.

    Arguments:
        store: that holds it.
        item: what to delete.
    """
    if isinstance(store, MirroredStore):
        name = item.path.relative_to(store.root).as_posix()
        below = store.remote.entries(name) if item.path.parent.name == "columns" else {name: None}
        store.remote.delete(below)
    remove(item.path)


def _columns(store: MirroredStore) -> dict[str, dict[str, Entry]]:
    """fingerprint -> the objects of the column; `signal.json` is in the mirror then."""
    store.descriptions()
    found: dict[str, dict[str, Entry]] = defaultdict(dict)
    for name, entry in store.remote.entries("columns").items():
        parts = name.split("/")
        if len(parts) == 3:
            found[parts[1]][name] = entry
    return found


def _usage(entries: Mapping[str, Entry]) -> tuple[int, float]:
    """(bytes, time of the last write)."""
    return sum(e.size for e in entries.values()), max(e.modified for e in entries.values())


def _rows(store: MirroredStore, entries: Mapping[str, Entry]) -> int:
    total, elsewhere = 0, []
    for name in entries:
        if name.endswith(".parquet"):
            try:
                total += pq.read_metadata(store.root / name).num_rows
            except (OSError, pa.ArrowException):
                elsewhere.append(name)
    return total + sum(store.remote.rows(elsewhere))


def _dead(store: MirroredStore) -> list[Path]:
    """Claims and locks of processes that have ended."""
    now = store.remote.now()
    found = []
    for name, entry in claims_in(store.remote).items():
        data = store.remote.read(name)
        if data is not None and is_dead(decode(data)[0], now - entry.modified):
            found.append(name)
    found += [
        name
        for name, entry in store.remote.entries("").items()
        if name.endswith(".lock") and now - entry.modified > LOCK_DAYS * DAY
    ]
    return [store.root / name for name in found]
