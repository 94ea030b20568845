"""Rows that a file names (--keep, --drop): ids, row numbers or digests. Reads that file.

    .parquet          a selection.parquet or evidence.parquet: columns digest, row or id
    .json, .jsonl     objects with digest, row or id (a subset, failures.jsonl), or plain ids
    anything else     text, one id a line; `row:17` is a row number; lines that start with # are skipped

Of an object the digest counts, else the row number, else the id. A digest names the row of the same number if that row
has it, else the first row that has it; an id names every row that has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError

if TYPE_CHECKING:
    from thresher.pools import Pool

Name = tuple[str | None, int | None, str | None]  # digest, row, id


def listed(path: str, flag: str, pool: Pool) -> np.ndarray:
    """bool [n], pool order. Raises ConfigError: no such file, nothing in it, or a name that no row has."""
    names = _names(Path(path), f"{flag} {path}")
    if not names:
        raise ConfigError(f"{flag} {path} names no row.")
    out = np.zeros(len(pool), bool)
    unknown = []
    by_digest = _Digests(pool)
    by_id: dict[str, list[int]] = {}
    if any(digest is None and row is None for digest, row, _ in names):
        for row, text in enumerate(pool.ids(range(len(pool)))):
            by_id.setdefault(text, []).append(row)
    for digest, number, id_ in names:
        if digest is not None:
            rows = by_digest.rows(digest, number)
        elif number is not None:
            rows = [number] if 0 <= number < len(pool) else []
        else:
            rows = by_id.get(id_ or "", [])
        if not rows:
            unknown.append(digest or (f"row {number}" if number is not None else f"id {id_}"))
        out[rows] = True
    if unknown:
        shown = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else "")
        raise ConfigError(
            f"{flag} {path} names rows that are not in the pool {pool.path}: {shown}. Was it made from another pool?"
        )
    return out


class _Digests:
    """Rows by digest, through the pool's own order."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._sorted: np.ndarray | None = None

    def rows(self, digest: str, number: int | None) -> list[int]:
        try:
            key = np.frombuffer(bytes.fromhex(digest).ljust(32, b"\0"), "S32")[0]
        except ValueError:
            return []
        digests = self.pool.digest
        if number is not None and 0 <= number < len(digests) and digests[number] == key:
            return [number]
        if self._sorted is None:
            self._sorted = digests[self.pool.order]
        at = int(np.searchsorted(self._sorted, key))
        return [int(self.pool.order[at])] if at < len(digests) and self._sorted[at] == key else []


def _names(path: Path, told: str) -> list[Name]:
    try:
        if path.suffix == ".parquet":
            return list(_of_parquet(path, told))
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{told}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{told} cannot be read: {error}.") from error
    if path.suffix == ".json":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{told} is not valid JSON: {error}.") from error
        if not isinstance(content, list):
            raise ConfigError(f"{told}: expected a JSON list of ids or of objects with digest, row or id.")
        return [_of_value(value, told, f"entry {i}") for i, value in enumerate(content)]
    lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if path.suffix == ".jsonl":
        return [_of_value(_json(line, told, i), told, f"line {i}") for i, line in lines]
    return [_of_line(line, told, i) for i, line in lines if not line.startswith("#")]


def _of_parquet(path: Path, told: str) -> Iterator[Name]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        why = str(error).rstrip(".")
        raise ConfigError(f"{told} is not a parquet file that can be read: {why}.") from error
    columns = {c: table[c].to_pylist() for c in ("digest", "row", "id") if c in table.column_names}
    if not columns:
        raise ConfigError(f"{told} has none of the columns digest, row and id.")
    for i in range(table.num_rows):
        digest, row, id_ = (columns[c][i] if c in columns else None for c in ("digest", "row", "id"))
        yield (None if digest is None else str(digest), None if row is None else int(row), _id(id_))


def _of_value(value: Any, told: str, where: str) -> Name:
    if isinstance(value, dict):
        digest, row, id_ = value.get("digest"), value.get("row"), value.get("id")
        if isinstance(digest, str) or (isinstance(row, int) and not isinstance(row, bool)) or id_ is not None:
            return (digest if isinstance(digest, str) else None, row if isinstance(row, int) else None, _id(id_))
    elif isinstance(value, (str, int, float)):
        return (None, None, _id(value))
    raise ConfigError(f"{told}, {where}: expected an id or an object with digest, row or id.")


def _of_line(line: str, told: str, number: int) -> Name:
    if line.startswith("row:"):
        try:
            return (None, int(line[4:]), None)
        except ValueError:
            raise ConfigError(f"{told}, line {number}: expected a row number after row:, not {line[4:]!r}.") from None
    return (None, None, line)


def _json(line: str, told: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{told}, line {number} is not valid JSON: {error}.") from error


def _id(value: Any) -> str | None:
    """An id as `Pool.ids` gives it."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
