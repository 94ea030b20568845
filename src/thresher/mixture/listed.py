"""Rows that a file names (--keep, --drop): ids, row numbers or digests. Reads that file.

    .parquet          a selection.parquet, evidence.parquet or duplicates.parquet; or any table with a column id
    .json, .jsonl     plain ids, or objects with an id: records of the pool, such as a subset; failures.jsonl
    anything else     text, one id a line; `row:17` is a row number; lines that start with # are skipped

`row` and `digest` are read only where thresher wrote them (tables and the viewer's lines carry a mark; lines of
failures.jsonl and of the log of doctor --fix have just their fields) or where an object holds nothing else: records
may have fields of these names, which mean something else. There the digest counts, else the row number, else the id.
A digest names the row of the same number if that row has it, else the first row that has it; an id names every row
that has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError
from thresher.text import ParseError, lines, parse_json

if TYPE_CHECKING:
    from thresher.pools import Pool

MARK = {b"thresher": b"rows of a pool"}  # metadata of the tables whose row and digest are those of a pool
WRITER = "thresher"  # a field with which the viewer marks the lines of keep.jsonl and drop.jsonl
_LINES = (  # fields of the lines that thresher writes about rows
    {"row", "id", "digest", "signal", "error"},  # failures.jsonl
    {"row", "id", "done", "kind", "what"},  # the log of doctor --fix
)
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
            content = parse_json(text)
        except ParseError as error:
            raise ConfigError(f"{told} is not valid JSON: {error}.") from error
        if not isinstance(content, list):
            raise ConfigError(f"{told}: expected a JSON list of ids or of objects with an id.")
        return [_of_value(value, told, f"entry {i}") for i, value in enumerate(content)]
    rows = [(i, line.strip(" \t\r")) for i, line in enumerate(lines(text), 1)]
    if path.suffix in (".jsonl", ".ndjson"):
        return [_of_value(_json(line, told, i), told, f"line {i}") for i, line in rows if line]
    return [_of_line(line, told, i) for i, line in rows if line and not line.startswith("#")]


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
    ours = MARK.items() <= (table.schema.metadata or {}).items()
    readable = ("digest", "row", "id") if ours else ("id",)
    columns = {c: table[c].to_pylist() for c in readable if c in table.column_names}
    if not columns:
        own = [c for c in ("row", "digest") if c in table.column_names]
        why = f" (its column {own[0]} counts only in a table that thresher wrote)" if own else ""
        raise ConfigError(f"{told} has no column id{why}.")
    for i in range(table.num_rows):
        digest, row, id_ = (columns[c][i] if c in columns else None for c in ("digest", "row", "id"))
        yield (None if digest is None else str(digest), None if row is None else int(row), _id(id_))


def _of_value(value: Any, told: str, where: str) -> Name:
    if isinstance(value, dict):
        id_ = value.get("id")
        if value.keys() in _LINES or WRITER in value or value.keys() <= {"row", "digest"}:
            digest, row = value.get("digest"), value.get("row")
            digest = digest if isinstance(digest, str) else None
            row = row if isinstance(row, int) and not isinstance(row, bool) else None
            if digest is not None or row is not None:
                return (digest, row, None if id_ is None else _id(id_))
        if id_ is not None:
            return (None, None, _id(id_))
    elif isinstance(value, (str, int, float)):
        return (None, None, _id(value))
    raise ConfigError(
        f"{told}, {where}: expected an id or an object with an id. Rows without one are named by number, in a text file "
        "with lines such as row:17."
    )


def _of_line(line: str, told: str, number: int) -> Name:
    if line.startswith("row:"):
        try:
            return (None, int(line[4:]), None)
        except ValueError:
            raise ConfigError(f"{told}, line {number}: expected a row number after row:, not {line[4:]!r}.") from None
    return (None, None, line)


def _json(line: str, told: str, number: int) -> Any:
    try:
        return parse_json(line)
    except ParseError as error:
        raise ConfigError(f"{told}, line {number} is not valid JSON: {error}.") from error


def _id(value: Any) -> str | None:
    """An id as `Pool.ids` gives it."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
