"""The meaning of a row does not depend on the rows before it in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thresher import exporters
from thresher.pools import Pool, open_pool
from thresher.types import digests_to_bytes

CASE = Path(__file__).resolve().parents[2] / "../shared/cases/03-system-only-in-later-rows"
EARLY = 230  # more rows than are looked at


def pair(i: int, first: str = "from", second: str = "value") -> list[dict[str, str]]:
    names = ("human", "gpt") if first == "from" else ("user", "assistant")
    return [{first: names[0], second: f"Q{i}"}, {first: names[1], second: f"A{i}"}]


PLAIN = {
    "llava": lambda i: {"id": i, "conversations": pair(i)},
    "messages": lambda i: {"id": i, "messages": pair(i, "role", "content")},
    "swift": lambda i: {"id": i, "messages": pair(i, "role", "content"), "images": []},
}
LATE: dict[str, Any] = {
    "system": lambda row, i: {**row, "system": f"Be brief {i}."},
    "tools": lambda row, i: {**row, "tools": '[{"name": "search"}]', "system": "S"},
    "messages": lambda row, i: {"id": i, "messages": pair(i, "role", "content")},
    "conversations": lambda row, i: {"id": i, "conversations": pair(i)},
    "role and content": lambda row, i: {"id": i, "conversations": pair(i, "role", "content")},
    "parts": lambda row, i: {
        "id": i,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Q"}]},
            {"role": "assistant", "content": "A"},
        ],
    },
}


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)) + "\n"
    path.write_text(text)
    return path


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    data = pa.Table.from_pylist(
        rows, pa.schema({k: _kind(rows, k) for k in {k: 0 for r in rows for k in r}})
    )
    if path.suffix == ".parquet":
        pq.write_table(data, path, row_group_size=50)
    else:
        with pa.ipc.new_stream(str(path), data.schema) as out:
            out.write_table(data, max_chunksize=50)
    return path


def _kind(rows: list[dict[str, Any]], key: str) -> pa.DataType:
    return pa.array([r.get(key) for r in rows]).type


def said(pool: Pool) -> dict[str, tuple[bytes, str]]:
    return {s.id: (s.digest, s.problem) for s in pool.samples(range(len(pool)))}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_row_does_not_depend_on_its_position(
    tmp_path: Path, kind: str, late: str, suffix: str
) -> None:
    rows = [PLAIN[kind](i) for i in range(EARLY)]
    special = [LATE[late](PLAIN[kind](i), i) for i in range(EARLY, EARLY + 3)]
    last = said(open_pool(save(tmp_path / f"last{suffix}", rows + special)))
    first = said(open_pool(save(tmp_path / f"first{suffix}", special + rows)))
    alone = said(open_pool(save(tmp_path / f"alone{suffix}", special)))
    assert last == first and alone.items() <= last.items()
    assert not any(problem for _, problem in last.values())


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", ["llava", "messages"])
def test_column_with_leading_nulls_is_read(tmp_path: Path, suffix: str, kind: str) -> None:
    rows = [PLAIN[kind](i) for i in range(40)]
    special = [{**PLAIN[kind](i), "system": f"Be brief {i}."} for i in range(40, 43)]
    last = open_pool(table(tmp_path / f"last{suffix}", rows + special))
    first = open_pool(table(tmp_path / f"first{suffix}", special + rows))
    assert said(last) == said(first)
    assert [s.turns[0].role for s in last.samples(range(40, 43))] == ["system"] * 3
    exporters.export(last, range(43), tmp_path / "x.json", "sharegpt")
    assert (
        sum("Be brief" in json.dumps(r) for r in json.loads((tmp_path / "x.json").read_text())) == 3
    )


def test_reported_case(tmp_path: Path) -> None:
    if not CASE.is_dir():
        pytest.skip("../shared/cases is not beside this checkout")
    late, early = (open_pool(CASE / name, CASE / "images") for name in ("late.json", "early.json"))
    assert set(digests_to_bytes(late.digest)) == set(digests_to_bytes(early.digest))
    parquet = open_pool(CASE / "sys_late.parquet")
    for pool, n in ((late, 50), (parquet, 12)):
        assert sum(s.turns[0].role == "system" for s in pool.samples(range(len(pool)))) == n
        for format in ("llamafactory", "sharegpt", "messages"):
            exporters.export(pool, range(len(pool)), tmp_path / f"{format}.json", format)
            again = open_pool(
                tmp_path / f"{format}.json", CASE / "images" if pool is late else None
            )
            assert sum(s.turns[0].role == "system" for s in again.samples(range(len(again)))) == n
