"""Files that list rows (--keep, --drop) by id, row number or digest.

    .parquet          a selection.parquet, evidence.parquet or duplicates.parquet; or any table with
                      a column id
    .json, .jsonl     plain ids, or objects with an id: records of the pool, such as a subset;
                      failures.jsonl
    anything else     text, one id per line; `row:17` is a row number; lines starting with # are
                      skipped

`row` and `digest` are read only where thresher wrote them (tables and the viewer's lines carry a
mark; lines of failures.jsonl and of doctor --fix's log have exactly their fields) or where an
object has no other fields: records may have fields of these names with another meaning. The digest
takes precedence over the row number, and that over the id. A digest refers to the row with the
given number if that row has it, else to the first row that has it; an id refers to every row that
has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, opt
from thresher.text import ParseError, parse_json, split_lines

if TYPE_CHECKING:
    from thresher.pools import Pool

# metadata of tables whose row and digest are those of a pool
MARK = {b"thresher": b"rows of a pool"}
WRITER = "thresher"  # field that marks the lines of keep.jsonl and drop.jsonl
_LINES = (  # fields of the lines that thresher writes
    {"row", "id", "digest", "signal", "error"},  # failures.jsonl
    {"row", "id", "done", "kind", "what"},  # the log of doctor --fix
)
Name = tuple[str | None, int | None, str | None]  # digest, row, id


def rows_in_file(path: str, option: str, pool: Pool) -> np.ndarray:
    """Rows listed in a file, bool [n], pool order.

    Arguments:
        path: the file.
        option: the option that it was given by, "keep" or "drop", for messages.
        pool: the pool.

    Raises ConfigError if the file is missing or empty, or names a row that the pool does not have.
    """
    names = _names(Path(path), opt(option, path))
    if not names:
        raise ConfigError(" lists no rows.", option=option, value=path)
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
        displayed = ", ".join(unknown[:3]) + (
            f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
        )
        raise ConfigError(
            f" names rows that are not in the pool {pool.path}: {displayed}. Was it made from "
            "another pool?",
            option=option,
            value=path,
        )
    return out


class _Digests:
    """Look up rows by digest."""

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
        position = int(np.searchsorted(self._sorted, key))
        return (
            [int(self.pool.order[position])]
            if position < len(digests) and self._sorted[position] == key
            else []
        )


def _names(path: Path, label: str) -> list[Name]:
    try:
        if path.suffix == ".parquet":
            return list(_parquet_names(path, label))
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{label}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{label} cannot be read: {error}.") from error
    if path.suffix == ".json":
        try:
            content = parse_json(text)
        except ParseError as error:
            raise ConfigError(f"{label} is not valid JSON: {error}.") from error
        if not isinstance(content, list):
            raise ConfigError(f"{label}: expected a JSON list of ids or of objects with an id.")
        return [_name_of_value(value, label, f"entry {i}") for i, value in enumerate(content)]
    rows = [(i, line.strip(" \t\r")) for i, line in enumerate(split_lines(text), 1)]
    if path.suffix in (".jsonl", ".ndjson"):
        return [
            _name_of_value(_json(line, label, i), label, f"line {i}") for i, line in rows if line
        ]
    return [_name_of_line(line, label, i) for i, line in rows if line and not line.startswith("#")]


def _parquet_names(path: Path, label: str) -> Iterator[Name]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"{label} is not a parquet file that can be read: {reason}.") from error
    written_by_us = MARK.items() <= (table.schema.metadata or {}).items()
    readable = ("digest", "row", "id") if written_by_us else ("id",)
    columns = {c: table[c].to_pylist() for c in readable if c in table.column_names}
    if not columns:
        own = [c for c in ("row", "digest") if c in table.column_names]
        reason = f" (its column {own[0]} counts only in a table that thresher wrote)" if own else ""
        raise ConfigError(f"{label} has no column id{reason}.")
    for i in range(table.num_rows):
        digest, row, id_ = (
            columns[c][i] if c in columns else None for c in ("digest", "row", "id")
        )
        yield (None if digest is None else str(digest), None if row is None else int(row), _id(id_))


def _name_of_value(value: Any, label: str, location: str) -> Name:
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
        f"{label}, {location}: expected an id or an object with an id. Rows without one are named "
        f"by "
        "number, in a text file with lines such as row:17."
    )


def _name_of_line(line: str, label: str, number: int) -> Name:
    if line.startswith("row:"):
        try:
            return (None, int(line[4:]), None)
        except ValueError:
            raise ConfigError(
                f"{label}, line {number}: expected a row number after row:, not {line[4:]!r}."
            ) from None
    return (None, None, line)


def _json(line: str, label: str, number: int) -> Any:
    try:
        return parse_json(line)
    except ParseError as error:
        raise ConfigError(f"{label}, line {number} is not valid JSON: {error}.") from error


def _id(value: Any) -> str | None:
    """An id in the form of `Pool.ids`."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
