"""The output folder of a selection: files, order and types, and reading it again."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests import runs as run
from tests.runs import compute
from tests.text_pools import FirstTies, Loss, Model, Nested, record, write_pool
from thresher import methods
from thresher.backends.fake import IDENTITY
from thresher.errors import ConfigError, PoolError, StoreError
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.selection import config
from thresher.selection import folder as output
from thresher.selection.files import plain_column
from thresher.selection.result import Outcome
from thresher.selection.signals_table import signals_table
from thresher.storage.columns import Store
from thresher.storage.writable import check_folder
from thresher.types import Budget, Sample


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(120)]))


def broken_17(sample: Sample) -> str:
    return "image is\nbroken" if sample.id == '"r17"' else ""


def made(
    pool: Pool, tmp_path: Path, method: Any = None, model: Model | None = None, **more: Any
) -> Outcome:
    store = Store(tmp_path / "store")
    handle = (model or Model(broken_17)).handle
    return run.select(
        pool, method or Nested(), Budget.parse("25%"), model=handle, store=store, **more
    )


def test_the_files_of_a_selection(pool: Pool, tmp_path: Path) -> None:
    outcome = made(pool, tmp_path)
    out = tmp_path / "out"
    output.write(outcome, pool, None, out)
    assert sorted(p.name for p in out.iterdir()) == [
        "evidence.parquet",
        "failures.jsonl",
        "run.yaml",
        "selection.parquet",
        "subset.json",
    ]

    subset = json.loads((out / "subset.json").read_text())
    # pool order, records untouched
    assert subset == [record(i) for i in sorted(outcome.rows.tolist())]

    table = pq.read_table(out / "selection.parquet")
    assert table.schema.names == ["row", "id", "digest", "rank", "effect", "group", "words"]
    assert [str(t) for t in table.schema.types[:4]] == ["int64", "string", "string", "int64"]
    assert table["row"].to_pylist() == outcome.rows.tolist()
    assert table["rank"].to_pylist() == list(range(30))
    assert table["id"].to_pylist() == [f"r{i}" for i in outcome.rows]
    assert table["digest"].to_pylist() == [pool.sample(i).digest.hex() for i in outcome.rows]
    assert set(table["group"].to_pylist()) <= {"P", "W"}
    assert table["words"].to_pylist() == [3 * (i % 7 + 1) for i in outcome.rows.tolist()]

    evidence = pq.read_table(out / "evidence.parquet")  # every row that the method saw, by row
    assert evidence.schema.names == ["row", "rank", "effect", "group", "words"]
    assert (
        evidence["row"].to_pylist() == sorted(outcome.considered.tolist()) and len(evidence) == 119
    )
    rank = dict(zip(evidence["row"].to_pylist(), evidence["rank"].to_pylist(), strict=True))
    assert [
        row for row, r in sorted(rank.items(), key=lambda kv: kv[1] if kv[1] is not None else 999)
    ][:30] == (outcome.rows.tolist())
    assert evidence["words"].to_pylist() == [3 * (i % 7 + 1) for i in evidence["row"].to_pylist()]

    (failure,) = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert failure == {
        "row": 17,
        "id": "r17",
        "digest": pool.sample(17).digest.hex(),
        "signal": "loss",
        "error": "image is\nbroken",
    }


def test_columns_of_text_hold_every_text() -> None:
    """Lone surrogates are escaped, and values of other types are spelled out."""
    known = np.array([True, True, False])
    for values, stored in (
        (["a", "é", "b"], ["a", "é", None]),
        (["a", "\ud800", "b"], ["a", "\\ud800", None]),
        (["a", 3, None], ["a", "3", None]),
        ([None, "a", "b"], ["None", "a", None]),
    ):
        column = plain_column(np.array(values, object), known)
        assert column.type == pa.string() and column.to_pylist() == stored
    assert plain_column(np.array([], object)).type == pa.string()


def test_invalid_utf8_is_copied_with_a_note(tmp_path: Path) -> None:
    """The subset has the pool's bytes, so that nothing is lost; the note says that a trainer cannot
    read them. It is given once, also if the selection is written twice."""
    file = tmp_path / "pool.jsonl"
    turns = b'"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "%b"}]'
    lines = [b'{"id": "r%d", %b}' % (i, turns % (b"caf\xe9" if i == 1 else b"tea")) for i in (0, 1)]
    file.write_bytes(b"\n".join(lines) + b"\n")
    pool = open_pool(file, tmp_path)
    outcome = run.select(
        pool, methods.load("random", {}), Budget.parse("2"), store=Store(tmp_path / "store")
    )
    out = tmp_path / "out"
    for _ in range(2):
        output.write(outcome, pool, RunRequest(pool=str(file), method="random", budget="2"), out)
    assert (out / "subset.jsonl").read_bytes() == file.read_bytes()
    notes = [note.text for note in outcome.notes if note.kind == "subset"]
    assert len(notes) == 1 and notes[0].startswith(
        "subset.jsonl: 1 row has text that is not valid UTF-8 (rows by field: 'conversations' 1)."
    )
    record = output.read(out)
    assert record["notes"].count(notes[0]) == 1
    assert record["note_kinds"].count("subset") == 1


def test_run_yaml_is_complete_and_replays(pool: Pool, tmp_path: Path) -> None:
    method = methods.load("clipper", {"prefer": "none", "bins": "7"})
    outcome = made(pool, tmp_path, method, Model(), seed=3)
    request = RunRequest(
        pool="pool.json",
        method="clipper",
        budget="25%",
        settings={"bins": "7"},
        model="fake",
        seed=3,
    )
    out = tmp_path / "out"
    output.write(outcome, pool, request, out)
    text = output.read(out)
    assert (
        text["method"]["settings"]["bins"] == 7
        and text["method"]["settings"]["knowledge_ratio"] == "none"
    )
    assert set(text["method"]["settings"]) == set(outcome.recipe.settings)
    assert text["pool"]["rows"] == 120 and text["pool"]["bytes"] == pool.path.stat().st_size
    assert (
        Path(text["pool"]["path"]) == pool.path.resolve()
        and Path(text["store"]) == (tmp_path / "store").resolve()
    )
    assert text["model"]["identity"]["weights"] == "fake:1" and text["model"]["name"] == "fake"
    assert [s["label"] for s in text["signals"]] == ["loss", "one_shot_p", "one_shot_w"]
    assert text["counts"] == {
        "pool": 120,
        "usable": 120,
        "left_out": 0,
        "budget": 30,
        "selected": 30,
    }
    assert {"python", "numpy", "torch", "transformers"} <= set(text["versions"])

    replay = config.combine(config.read(out / "run.yaml"), {})
    assert (replay.pool, replay.method, replay.budget, replay.seed, replay.model) == (
        str(pool.path.resolve()),  # what was opened, not what that name means here
        "clipper",
        "25%",
        3,
        "fake",
    )
    assert methods.load(replay.method, replay.settings) == method


def test_run_without_a_model_names_none(pool: Pool, tmp_path: Path) -> None:
    outcome = run.select(pool, FirstTies(), Budget.parse("5"), store=Store(tmp_path / "store"))
    output.write(outcome, pool, None, tmp_path / "out")
    text = output.read(tmp_path / "out")
    # no YAML aliases: people read it
    assert "&id" not in (tmp_path / "out" / "run.yaml").read_text()
    assert text["model"] is None and text["signals"] == [] and "torch" not in text["versions"]
    assert not (tmp_path / "out" / "failures.jsonl").exists()
    assert not (tmp_path / "store").exists()


def test_selection_is_deterministic(pool: Pool, tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        output.write(made(pool, tmp_path), pool, None, out)  # the second run scores nothing
    for name in (
        "subset.json",
        "selection.parquet",
        "evidence.parquet",
        "run.yaml",
        "failures.jsonl",
    ):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


def test_a_shuffled_pool_selects_the_same_records(tmp_path: Path) -> None:
    records = [record(i) for i in range(120)]
    rows = []
    for name, order in (("a", records), ("b", random.Random(2).sample(records, 120))):
        pool = open_pool(write_pool(tmp_path / name / "pool.json", order))
        output.write(made(pool, tmp_path / name), pool, None, tmp_path / name / "out")
        table = pq.read_table(tmp_path / name / "out" / "selection.parquet").drop_columns(["row"])
        lines = (tmp_path / name / "out" / "subset.json").read_text().splitlines()
        rows.append((table, sorted(line.rstrip(",") for line in lines)))
    assert rows[0][0].equals(rows[1][0]) and rows[0][1] == rows[1][1]


def test_old_selection_is_replaced_and_other_files_stay(pool: Pool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    output.write(made(pool, tmp_path), pool, None, out)
    (out / "notes.txt").write_text("mine")
    lines = [json.dumps(record(i)) for i in range(10)]
    (tmp_path / "pool.jsonl").write_text("\n".join(lines) + "\n")
    other = open_pool(tmp_path / "pool.jsonl")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(
        ConfigError,
        match=r"holds another selection \(nested.*differs in "
        r"pool.*overwrite=True",
    ):
        output.write(made(other, tmp_path), other, None, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    output.write(made(other, tmp_path), other, None, out, overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == [
        "evidence.parquet",
        "notes.txt",
        "run.yaml",
        "selection.parquet",
        "subset.jsonl",
    ]
    assert (out / "subset.jsonl").read_text().splitlines() == [
        lines[i] for i in sorted(made(other, tmp_path).rows)
    ]


def test_foreign_subset_is_not_deleted(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "subset.jsonl").write_text("the user's")
    output.write(made(pool, tmp_path), pool, None, tmp_path / "out")
    assert (tmp_path / "out" / "subset.jsonl").read_text() == "the user's"


def test_foreign_subset_is_not_overwritten(pool: Pool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "subset.json").write_text("the user's")
    with pytest.raises(
        ConfigError,
        match=r"holds a subset\.json that no selection of thresher "
        r"left there",
    ):
        output.write(made(pool, tmp_path), pool, None, out)
    assert [p.name for p in out.iterdir()] == ["subset.json"] and (
        out / "subset.json"
    ).read_text() == "the user's"
    (out / "subset.json").unlink()
    output.write(made(pool, tmp_path), pool, None, out)
    (out / "run.yaml").unlink()  # as a kill leaves it: ours all the same
    output.write(made(pool, tmp_path), pool, None, out)
    assert (out / "run.yaml").exists()


def test_pool_is_never_overwritten(tmp_path: Path) -> None:
    path = write_pool(tmp_path / "subset.json", [record(i) for i in range(20)])
    before = path.read_bytes()
    pool = open_pool(path)
    with pytest.raises(ConfigError, match="holds the pool itself"):
        output.write(made(pool, tmp_path), pool, None, tmp_path)
    assert path.read_bytes() == before


def test_out_that_cannot_be_written_is_refused(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        check_folder(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be written to"):
        check_folder(tmp_path / "file" / "out")
    with pytest.raises(ConfigError, match="cannot be written to: File name too long"):
        check_folder(tmp_path / "new" / ("x" * 300) / "out")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    with pytest.raises(ConfigError, match="cannot be written to"):
        check_folder(tmp_path / "nowhere" / "out")
    before = sorted(tmp_path.iterdir())
    assert check_folder(tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert sorted(tmp_path.iterdir()) == before


def test_full_disk_keeps_the_old_selection(pool: Pool, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out"
    output.write(made(pool, tmp_path), pool, None, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    outcome = made(pool, tmp_path, seed=1)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StoreError, match="No space left on device"):
        output.write(outcome, pool, None, out, overwrite=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_reading_an_invalid_selection(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no run\.yaml"):
        output.read(tmp_path)
    (tmp_path / "run.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="cannot be read"):
        output.read(tmp_path)
    (tmp_path / "run.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"not a run\.yaml of thresher"):
        output.read(tmp_path)


# -------------------------------------------------------------------------------------- all columns


def clipped(pool: Pool, tmp_path: Path, model: Model) -> Path:
    output.write(made(pool, tmp_path, methods.load("clipper"), model), pool, None, tmp_path / "out")
    return tmp_path / "out"


def test_all_columns_of_the_whole_pool(pool: Pool, tmp_path: Path) -> None:
    out = clipped(pool, tmp_path, Model(broken_17))
    table = signals_table(out)
    assert table["row"].to_pylist() == list(range(120)) and table["id"][5].as_py() == "r5"
    assert {
        "loss.nll",
        "loss.tokens",
        "loss.error",
        "knowledge.parametric",
        "one_shot_p.nll",
    } <= set(table.schema.names)
    assert (
        table["loss.error"][17].as_py() == "image is\nbroken"
        and table["loss.nll"][17].as_py() is None
    )
    assert table["one_shot_w.nll"].null_count == 1 and table["loss.error"][16].as_py() == ""
    column = compute(Loss(IDENTITY), pool, store=Store(tmp_path / "other"), model=Model().handle)
    got = np.delete(np.array(table["loss.nll"].to_pylist(), float), 17)
    assert (got.astype(np.float32) == np.delete(column.values["nll"], 17)).all()
    displayed = set(table["demonstration_p.digest"].to_pylist()) - {None, ""}
    assert displayed <= set(table["digest"].to_pylist()) and displayed


def test_columns_of_rows_with_videos(tmp_path: Path) -> None:
    records = [record(i) | ({"video": f"{i}.mp4"} if i < 4 else {}) for i in range(60)]
    pool = open_pool(write_pool(tmp_path / "pool.json", records))
    pool.score_videos(2)
    table = signals_table(clipped(pool, tmp_path, Model()))
    assert table["loss.error"].to_pylist() == [""] * 60
    assert table["loss.nll"].null_count == 0


def test_columns_need_the_unchanged_pool_and_store(pool: Pool, tmp_path: Path) -> None:
    out = clipped(pool, tmp_path, Model())
    run_yaml = output.read(out)
    parts = Store(tmp_path / "store").parts(run_yaml["signals"][0]["fingerprint"])
    data = parts[0].read_bytes()
    parts[0].unlink()
    with pytest.raises(StoreError, match="no longer in the store"):
        signals_table(out)
    parts[0].write_bytes(data)
    signals_table(out)

    run_yaml["signals"][0]["fingerprint"] = "0" * 32
    text = (out / "run.yaml").read_text()
    (out / "run.yaml").write_text(yaml.safe_dump(run_yaml))
    with pytest.raises(StoreError, match="in another way"):
        signals_table(out)
    (out / "run.yaml").write_text(text)

    write_pool(tmp_path / "pool.json", [record(i) for i in range(121)])
    with pytest.raises(PoolError, match="has changed since the selection"):
        signals_table(out)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_kill_between_two_files_leaves_no_complete_looking_folder(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Over an earlier selection that had failures. The next command that looks completes the
    exchange."""
    out = tmp_path / "out"
    first = made(pool, tmp_path)
    output.write(first, pool, None, out)
    whole = {p.name: p.read_bytes() for p in out.iterdir()}
    replace, left = os.replace, [after]

    def killed(a: Any, b: Any) -> None:
        if Path(b).parent == out:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        replace(a, b)

    with monkeypatch.context() as m:
        m.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            output.write(first, pool, None, out)
    assert not (out / "run.yaml").exists()
    output.read(out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == whole
    other = run.select(pool, FirstTies(), Budget.parse("5"), store=Store(tmp_path / "store"))
    output.write(other, pool, None, out, overwrite=True)
    assert output.read(out)["counts"]["selected"] == 5
    assert sorted(p.name for p in out.iterdir()) == [
        "evidence.parquet",
        "run.yaml",
        "selection.parquet",
        "subset.json",
    ]
