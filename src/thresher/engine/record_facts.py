"""The facts of a pool, as `FactSignal`s receive them: those of its index and, read only where a
signal asks for them, numbers and names of its records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import numpy as np

from thresher.pools.view import PoolView
from thresher.text import parse_json

ROW, IDX = "row", "idx"


class RecordFacts(Mapping[str, np.ndarray]):
    """`pool.facts`, and

    row: int64 [n], the number of the row in the order of the files.
    idx: object [n], the record's field `idx` as JSON, else its `id`; "" if it has none.
    """

    def __init__(self, pool: PoolView) -> None:
        self._pool = pool
        self._names = (*pool.facts, ROW, IDX)
        self._idx: np.ndarray | None = None  # once read

    def __getitem__(self, name: str) -> np.ndarray:
        if name == ROW:
            return np.arange(len(self._pool), dtype=np.int64)
        if name == IDX:
            if self._idx is None:
                raw = self._pool.raw(range(len(self._pool)))
                self._idx = np.array([_idx(record) for record in raw], object)
            return self._idx
        return self._pool.facts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _idx(raw: bytes) -> str:
    try:
        record = parse_json(raw)
    except ValueError:
        return ""
    if not isinstance(record, dict):
        return ""
    value = record.get("idx", record.get("id"))
    return "" if value is None else json.dumps(value, ensure_ascii=False)
