"""A selection of a pool with a dataset_info.json has the pool's records and a dataset_info.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import runs as run
from tests.text_pools import FirstTies
from thresher.pools import Pool, open_pool
from thresher.selection import folder as output
from thresher.storage.columns import Store
from thresher.types import Budget

ENTRIES: dict[str, dict[str, Any]] = {
    "sharegpt": {
        "formatting": "sharegpt",
        "columns": {"messages": "talk", "images": "pics", "system": "sys"},
        "tags": {
            "role_tag": "who",
            "content_tag": "what",
            "user_tag": "me",
            "assistant_tag": "you",
        },
    },
    "alpaca": {"columns": {"prompt": "ask", "query": "more", "response": "say", "images": "pics"}},
}


def record(kind: str, i: int) -> dict[str, Any]:
    if kind == "alpaca":
        return {
            "ask": f"<image>Q{i}",
            "more": "please",
            "say": f"A{i}",
            "pics": [f"{i}.png"],
            "row": i,
        }
    talk = [{"who": "me", "what": f"<image>Q{i}"}, {"who": "you", "what": f"A{i}"}]
    return {"talk": talk, "pics": [f"{i}.png"], "sys": f"S{i}", "digest": "own"}


def described(folder: Path, kind: str, suffix: str) -> Pool:
    folder.mkdir()
    rows = [record(kind, i) for i in range(6)]
    for i in range(6):
        (folder / f"{i}.png").write_bytes(bytes([i]) * 9)
    text = json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows))
    (folder / f"data{suffix}").write_text(text)
    info = {
        "mine": {"file_name": f"data{suffix}", **ENTRIES[kind]},
        "other": {"file_name": "gone.json"},
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return open_pool(f"{folder}/dataset_info.json#mine")


def select(pool: Pool, out: Path) -> list[int]:
    chosen = run.select(pool, FirstTies(), Budget.parse("3"), store=Store(out.parent / "store"))
    output.write(chosen, pool, None, out, overwrite=True)
    return sorted(chosen.rows.tolist())


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_selection_is_written_in_the_pools_format(tmp_path: Path, kind: str, suffix: str) -> None:
    pool = described(tmp_path / "data", kind, suffix)
    rows = select(pool, tmp_path / "out")
    text = (tmp_path / "out" / f"subset{suffix}").read_text()
    found = (
        json.loads(text)
        if suffix == ".json"
        else [json.loads(line) for line in text.split("\n") if line]
    )
    assert found == [record(kind, i) for i in rows]
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert info == {"mine": {"file_name": f"subset{suffix}", **ENTRIES[kind]}}
    again = open_pool(tmp_path / "out", tmp_path / "data")
    assert again.digest.tolist() == pool.digest[rows].tolist() and again.format == "llamafactory"
    assert again.source_names == pool.source_names == ("mine",)


def test_other_entries_stay_and_stale_ones_are_removed(tmp_path: Path) -> None:
    pool = described(tmp_path / "data", "sharegpt", ".json")
    out = tmp_path / "out"
    select(pool, out)
    info = json.loads((out / "dataset_info.json").read_text())
    (out / "dataset_info.json").write_text(json.dumps(info | {"users": {"file_name": "x.json"}}))
    select(pool, out)
    assert set(json.loads((out / "dataset_info.json").read_text())) == {"users", "mine"}
    plain = tmp_path / "plain.jsonl"
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    plain.write_text("\n".join(json.dumps({"id": i, "conversations": turns}) for i in range(4)))
    select(open_pool(plain), out)
    assert set(json.loads((out / "dataset_info.json").read_text())) == {"users"}
    assert len(open_pool(out)) == 3


def test_dataset_info_of_the_pool_is_unchanged(tmp_path: Path) -> None:
    pool = described(tmp_path / "data", "alpaca", ".json")
    before = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    select(pool, tmp_path / "data")
    after = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    assert before.items() <= after.items() and after["subset"]["file_name"] == "subset.json"
