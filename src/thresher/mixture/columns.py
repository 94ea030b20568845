"""Columns of a pool by user-given name: facts known after reading, or fields of the records.

    facts           length (words of all answers), answer_words, answer_chars, turns, images, video,
                    audio, source
    record fields   any other name, nested ones with dots: data_source, meta.score; `.length` = the
                    record's field instead of the fact

Reads the records once for all requested fields.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, did_you_mean
from thresher.text import parse_json

if TYPE_CHECKING:
    from thresher.pools import Pool

FACTS = {
    "length": "answer_words",
    "answer_words": "answer_words",
    "answer_chars": "answer_chars",
    "turns": "turns",
    "images": "images",
    "video": "video",
    "audio": "audio",
}
SOURCE = "source"
BATCH_ROWS = 4096  # records at once


class PoolColumns:
    """Columns of one pool, in pool order.

    Arguments:
        pool: n rows.
        names: the columns that will be requested.
    """

    def __init__(self, pool: Pool, names: Sequence[str]) -> None:
        self.pool = pool
        self.fields = tuple(dict.fromkeys(_field(n) for n in names if not is_fact(n)))
        self._values: dict[str, list[Any]] | None = None
        self.seen: dict[str, None] = {}  # keys of the records, for messages

    def numbers(self, name: str) -> np.ndarray | None:
        """float64 [n] of a fact; None for other columns."""
        if name not in FACTS:
            return None
        return np.asarray(self.pool.facts[FACTS[name]], np.float64)

    def has(self, name: str) -> bool:
        """Whether a name is a fact, or a field of at least one record."""
        return is_fact(name) or any(v is not None for v in self._read()[_field(name)])

    def values(self, name: str, label: str) -> list[Any]:
        """Each row's value: number, text or bool; None if the record lacks the field.

        Arguments:
            name: of a fact or a field.
            label: the option that requested it, for the message.

        Raises ConfigError if no record has the field.
        """
        if name == SOURCE:
            names = self.pool.source_names
            return [names[i] for i in self.pool.source.tolist()]
        if name in FACTS:
            return list(self.pool.facts[FACTS[name]].tolist())
        values = self._read()[_field(name)]
        if all(v is None for v in values):
            known = [*FACTS, SOURCE, *self.seen]
            raise ConfigError(
                f"{label}: no row has {_field(name)!r}.{did_you_mean(_field(name), known)} Known: "
                f"{', '.join(known)}."
            )
        return values

    def _read(self) -> dict[str, list[Any]]:
        if self._values is None:
            self._values = {f: [] for f in self.fields}
            n = len(self.pool)
            for start in range(0, n, BATCH_ROWS):
                for raw in self.pool.raw(range(start, min(start + BATCH_ROWS, n))):
                    record = _record(raw)
                    if len(self.seen) < 100:
                        self.seen |= dict.fromkeys(record)
                    for f in self.fields:
                        self._values[f].append(_field_value(record, f))
        return self._values


def is_fact(name: str) -> bool:
    """Whether a name is a fact (or the source) rather than a record field."""
    return name in FACTS or name == SOURCE


def as_text(value: Any) -> str:
    """A value as the user would type it: 7, 0.5, true, text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_number(value: Any) -> float | None:
    """The value as a number, None if it is not one."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _field(name: str) -> str:
    return name[1:] if name.startswith(".") else name


def _record(raw: bytes) -> dict[str, Any]:
    try:
        value = parse_json(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _field_value(record: dict[str, Any], field: str) -> Any:
    """The field by its full name, else by its dotted path."""
    if field in record:
        return record[field]
    value: Any = record
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value
