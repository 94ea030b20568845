"""--keep and --drop files: meaning of `row`, `digest` and `id`, and line endings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import runs as run
from tests.text_pools import FirstTies
from thresher import exporters
from thresher.errors import ConfigError
from thresher.mixture.row_lists import rows_in_file
from thresher.pools import Pool, open_pool
from thresher.report.folder import read_failures
from thresher.selection import folder as output
from thresher.selection.result import Failure
from thresher.storage.columns import Store
from thresher.types import Budget, digests_to_bytes

CASES = Path(__file__).resolve().parents[2] / "../shared/cases"
OWN: dict[str, list[Any]] = {  # fields of the user's own that thresher's tables have too
    "row": [5, 0, 2, 1, 4, 3],
    "digest": ["d5", "d4", "d3", "d2", "d1", "d0"],
    "rank": [1, 1, 2, 2, 3, 3],
    "signal": ["a", "b", "c", "d", "e", "f"],
    "error": ["none"] * 6,
}


def records(**extra: list[Any]) -> list[dict[str, Any]]:
    out = []
    for i in range(6):
        turns = [{"from": "human", "value": f"Q{i}"}, {"from": "gpt", "value": f"A{i}"}]
        out.append({"id": f"r{i}", "conversations": turns} | {k: v[i] for k, v in extra.items()})
    return out


def pool_of(folder: Path, rows: list[dict[str, Any]], name: str = "pool.jsonl") -> Pool:
    path = folder / name
    text = (
        json.dumps(rows)
        if name.endswith(".json")
        else "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    )
    path.write_text(text, encoding="utf-8", newline="")
    return open_pool(path)


def named(path: Path, pool: Pool) -> list[int]:
    return np.flatnonzero(rows_in_file(str(path), "keep", pool)).tolist()


def select(pool: Pool, folder: Path, budget: str = "3") -> Path:
    out = run.select(pool, FirstTies(), Budget.parse(budget), store=Store(folder / "store"))
    output.write(out, pool, None, folder / "out")
    return folder / "out"


@pytest.mark.parametrize("own", [("row",), ("digest",), ("row", "digest"), tuple(OWN)])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_fields_of_user_records_do_not_name_rows(
    tmp_path: Path, own: tuple[str, ...], suffix: str
) -> None:
    rows = records(**{name: OWN[name] for name in own})
    pool = pool_of(tmp_path, rows)
    some = [rows[1], rows[2]]
    path = tmp_path / f"some{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(some), path)
    else:
        path.write_text(json.dumps(some) if suffix == ".json" else "\n".join(map(json.dumps, some)))
    assert named(path, pool) == [1, 2]


@pytest.mark.parametrize("format", ["llava-jsonl", "parquet", "swift", "messages", "sharegpt"])
def test_pool_with_such_fields_is_written_unchanged(tmp_path: Path, format: str) -> None:
    rows = records(**OWN, source=[f"s{i % 2}" for i in range(6)])
    pool = pool_of(tmp_path, rows)
    name = tmp_path / (
        "again" + {"parquet": ".parquet", "llava-jsonl": ".jsonl"}.get(format, ".jsonl")
    )
    exporters.export(pool, range(6), name, format)
    again = open_pool(name)
    assert again.digest.tolist() == pool.digest.tolist() and again.ids(range(6)) == pool.ids(
        range(6)
    )
    fields = [
        {k: v for k, v in again.record(i).items() if k not in ("images", "tools")} for i in range(6)
    ]
    assert fields == [pool.record(i) for i in range(6)]
    assert again.source_names == pool.source_names == ("s0", "s1")
    assert named(name, pool) == list(range(6))


def test_selection_files_name_their_rows(tmp_path: Path) -> None:
    rows = records(**OWN)
    del rows[3]["id"]
    pool = pool_of(tmp_path, rows)
    out = select(pool, tmp_path)
    chosen = sorted(output.chosen(out)[0].tolist())
    assert named(out / "selection.parquet", pool) == chosen
    assert named(out / "evidence.parquet", pool) == list(range(6))


def test_user_table_with_only_row_is_refused(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, records())
    pq.write_table(pa.table({"row": [1, 2]}), tmp_path / "mine.parquet")
    with pytest.raises(
        ConfigError, match="its column row counts only in a table that thresher wrote"
    ):
        named(tmp_path / "mine.parquet", pool)


def test_doctor_log_names_its_rows(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, records())
    log = write(
        tmp_path / "p.changes.jsonl",
        [{"row": 3, "id": "r5", "done": "repaired", "kind": "crlf", "what": "-"}],
    )
    assert named(log, pool) == [3]


def test_objects_with_only_row_or_digest_are_references(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, records())
    path = tmp_path / "some.json"
    path.write_text(json.dumps([{"row": 4}, {"digest": pool.digest[2].ljust(32, b"\0").hex()}]))
    assert named(path, pool) == [2, 4]
    path.write_text(json.dumps([{"conversations": [], "row": 4}]))
    with pytest.raises(ConfigError, match="expected an id or an object with an id"):
        named(path, pool)


@pytest.mark.parametrize(
    "character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
)
def test_unicode_line_separators_do_not_end_a_line(tmp_path: Path, character: str) -> None:
    rows = records()
    rows[1]["conversations"][0]["value"] += f"one{character}two"
    rows[2]["id"] = f"id{character}two{character}"
    rows[2]["image"] = "gone.png"
    pool = open_pool(write(tmp_path / "pool.jsonl", rows))
    assert named(write(tmp_path / "subset.jsonl", rows[1:3]), pool) == [1, 2]
    ids = tmp_path / "ids.txt"
    ids.write_text(
        f"# kept\r\nid{character}two{character}\r\nrow:4\n", encoding="utf-8", newline=""
    )
    assert named(ids, pool) == [2, 4]
    failure = Failure(2, rows[2]["id"], "00" * 32, "pool", f"no such{character} image")
    assert failures(tmp_path, failure) == [failure]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As select writes it: characters unescaped. Python's json module escapes what JSON forbids."""
    path.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows),
        encoding="utf-8",
        newline="",
    )
    return path


def failures(folder: Path, failure: Any) -> list[Any]:
    line = json.dumps(asdict(failure), ensure_ascii=False)
    (folder / "failures.jsonl").write_text(line + "\n", encoding="utf-8", newline="")
    return read_failures(folder)


@pytest.mark.parametrize(
    "text", ["[" * 2000, '{"a":' * 2000, '[{"id": "r1", "x": ' + "[" * 100_000]
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_deep_json_is_refused_with_a_message(tmp_path: Path, text: str, suffix: str) -> None:
    pool = pool_of(tmp_path, records())
    (tmp_path / f"deep{suffix}").write_text(text)
    with pytest.raises(ConfigError, match="nested more than 200 levels deep"):
        named(tmp_path / f"deep{suffix}", pool)


def test_reported_cases(tmp_path: Path) -> None:
    if not CASES.is_dir():
        pytest.skip("../shared/cases is not beside this checkout")
    grid = CASES / "02-keep-file-own-row-field"
    assert named(grid / "keepme.json", open_pool(grid / "grid.json", grid / "images")) == [1, 2]
    lines = CASES / "14-keep-jsonl-line-separator"
    pool = open_pool(lines / "pool.jsonl", lines / "images")
    expected = [
        json.loads(line)["id"]
        for line in (lines / "subset.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    assert pool.ids(named(lines / "subset.jsonl", pool)) == expected
    report = CASES / "15-report-line-separator"
    assert [f.row for f in read_failures(report)] == [4]
    again = open_pool(report / "pool.jsonl", report / "images")
    data = json.loads((report / "failures.jsonl").read_text("utf-8"))
    # the given one is of an older version's identity
    data["digest"] = digests_to_bytes(again.digest[4:5])[0].hex()
    (tmp_path / "failures.jsonl").write_text(json.dumps(data, ensure_ascii=False) + "\n", "utf-8")
    assert named(tmp_path / "failures.jsonl", again) == [4]
