"""Selections of pools in every format: the subset, exporting it, and reopening the pool from
run.yaml."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests import runs as run
from tests.exporters.pools_by_format import EMBED, make_images, start
from tests.warm_process import WarmServer
from thresher import methods
from thresher.errors import ConfigError
from thresher.exporters import export
from thresher.pools import Pool, open_pool
from thresher.selection import folder as output
from thresher.selection.result import Outcome
from thresher.selection.signals_table import signals_table
from thresher.storage.columns import Store
from thresher.types import Budget, digests_to_bytes

NAMES = ("a.png", "sub/b.jpg", "c.gif")


@pytest.fixture
def first(tmp_path: Path) -> Pool:
    rows: list[dict[str, Any]] = []
    for i in range(30):
        turns = [{"from": "human", "value": f"<image>\nQ{i}"}, {"from": "gpt", "value": f"A{i}"}]
        rows.append(
            {
                "id": i,
                "image": NAMES[i % 3],
                "meta": [i],
                "data_source": f"s{i % 2}",
                "conversations": turns,
            }
        )
    return start(tmp_path / "start", rows, make_images(tmp_path / "images"))


def selected(pool: Pool, out: Path) -> tuple[Path, Outcome]:
    """A selection of ten rows written to `out`: its subset, and what was chosen."""
    outcome = run.select(
        pool, methods.load("random"), Budget.parse("10"), store=Store(out.parent / "store")
    )
    output.write(outcome, pool, None, out)
    (subset,) = out.glob("subset.*")
    return subset, outcome


KINDS = {
    "swift.jsonl": ("swift", None, "subset.jsonl"),
    "share.json": ("sharegpt", None, "subset.json"),
    "messages.json": ("messages", None, "subset.json"),
    "uris.jsonl": ("messages", EMBED, "subset.jsonl"),
    "p.parquet": ("parquet", EMBED, "subset.parquet"),
    "paths.parquet": ("parquet", None, "subset.json"),
    "shards": ("webdataset", None, "subset.parquet"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_subset_holds_the_chosen_rows(first: Pool, tmp_path: Path, name: str) -> None:
    format, options, file = KINDS[name]
    export(first, range(30), tmp_path / name, format, options)
    pool = open_pool(tmp_path / name, tmp_path / "images")
    subset, outcome = selected(pool, tmp_path / "out")
    assert subset.name == file
    again = open_pool(subset, tmp_path / "images")
    rows = np.sort(outcome.rows)
    assert again.samples(range(10)) == pool.samples(rows)
    assert [again.record(i)["meta"] for i in range(10)] == [[int(i)] for i in rows]
    assert open_pool(tmp_path / "out", tmp_path / "images").ids(range(10)) == again.ids(
        range(10)
    )  # the folder represents it


def test_mixture_of_two_image_folders_can_be_reopened(first: Pool, tmp_path: Path) -> None:
    for part, rows in (("x", range(0, 30, 2)), ("y", range(1, 30, 2))):
        make_images(tmp_path / part)
        export(first, rows, tmp_path / part / "p.json", "llava" if part == "x" else "swift")
    (tmp_path / "y/p.json").rename(tmp_path / "y/p.jsonl")
    (tmp_path / "m.yaml").write_text(
        yaml.safe_dump({"datasets": [{"json_path": "x/p.json"}, {"json_path": "y/p.jsonl"}]})
    )
    pool = open_pool(tmp_path / "m.yaml")
    assert not pool.facts["missing_images"].any() and len(pool.index.image_path) == 6
    subset, outcome = selected(pool, tmp_path / "out")
    again = open_pool(subset, pool.images_folder)
    assert subset.name == "subset.json" and again.samples(range(10)) == pool.samples(
        np.sort(outcome.rows)
    )
    assert signals_table(tmp_path / "out")["digest"].to_pylist() == [
        d.hex() for d in digests_to_bytes(pool.digest)
    ]


def test_patterns_and_forced_formats_open_again_from_any_folder(
    first: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(first, range(15), tmp_path / "w/0.tar", "webdataset")
    export(first, range(15, 30), tmp_path / "w/1.tar", "webdataset")
    monkeypatch.chdir(tmp_path)
    selected(open_pool("w/*.tar"), tmp_path / "out")
    monkeypatch.chdir("/")
    assert output.read(tmp_path / "out")["pool"]["files"] == 2
    assert signals_table(tmp_path / "out").num_rows == 30
    both = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    both["conversations"] = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "B"}]
    (tmp_path / "both.json").write_text(json.dumps([both] * 12))
    selected(open_pool(tmp_path / "both.json", format="messages"), tmp_path / "out2")
    assert signals_table(tmp_path / "out2").num_rows == 12


def test_a_pool_is_never_overwritten_by_its_selection(first: Pool, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(first, range(30), tmp_path / "out/subset.parquet", "parquet", EMBED)
    with pytest.raises(ConfigError, match=r"holds the pool itself \(subset\.parquet\)"):
        selected(open_pool(tmp_path / "out/subset.parquet"), tmp_path / "out")


def test_export_command(first: Pool, tmp_path: Path, warm: WarmServer) -> None:
    export(first, range(30), tmp_path / "shards", "webdataset")
    selected(open_pool(tmp_path / "shards"), tmp_path / "out")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return warm.run("export", "out", *words, cwd=tmp_path)

    done = command("--format", "llamafactory", "--out", "lf/mine.json")
    assert done.returncode == 0 and "10 rows written to lf/mine.json (llamafactory)" in done.stdout
    assert "3 embedded images are written to lf/mine_images" in done.stderr.replace("\n", " ")
    assert len(open_pool(tmp_path / "lf")) == 10
    assert (
        command("--out", "again.parquet").returncode == 0
        and len(open_pool(tmp_path / "again.parquet")) == 10
    )
    wrong = command("--format", "llava", "--embed-images", "--out", "x.json")
    assert wrong.returncode == 2 and "llava names image files" in wrong.stderr
    wrong = command(
        "--format", "llava", "--absolute-paths", "--relative-to", ".", "--out", "x.json"
    )
    assert wrong.returncode == 2 and "exclude each other" in wrong.stderr
    kept = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    for own in ("run.yaml", "selection.parquet", "subset.parquet"):
        wrong = command("--format", "llava", "--out", f"out/{own}")
        assert wrong.returncode == 2 and "is a file of the selection itself" in " ".join(
            wrong.stderr.split()
        )
    assert kept == {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    (tmp_path / "out/selection.parquet").write_bytes(b"cut off")
    wrong = command("--format", "llava", "--out", "x.json")
    assert wrong.returncode == 2 and "selection.parquet cannot be read" in " ".join(
        wrong.stderr.split()
    )


def test_export_takes_a_pool_as_it_is(first: Pool, tmp_path: Path, warm: WarmServer) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        store = {**os.environ, "THRESHER_STORE": str(tmp_path / "store")}
        return warm.run("export", *words, cwd=tmp_path, env=store)

    images = str(first.images_folder)
    pool = tmp_path / "pool.jsonl"
    good = Path(first.path).read_bytes().rstrip(b"\n")
    pool.write_bytes(good + b"\n{broken\n")
    done = command("pool.jsonl", "--images", images, "--format", "swift", "--out", "all.jsonl")
    assert done.returncode == 0 and "30 rows written to all.jsonl (swift)" in done.stdout
    assert "1 row cannot be read and is left out" in " ".join(done.stderr.split())
    again = open_pool(tmp_path / "all.jsonl", images)
    assert again.digest.tobytes() == first.digest.tobytes()
    assert command("pool.jsonl", "--images", images, "--out", "copy.jsonl").returncode == 0
    assert (tmp_path / "copy.jsonl").read_bytes().rstrip() == good  # its own format: byte for byte
    wrong = command("pool.jsonl", "--out", "pool.jsonl")
    assert wrong.returncode == 2 and pool.read_bytes().startswith(good)
    assert command("gone.json", "--out", "x.json").returncode == 1
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "selection.parquet").touch()
    assert "not a finished selection" in command("half", "--out", "x.json").stderr
    selected(open_pool(tmp_path / "all.jsonl", images), tmp_path / "out")
    selected(open_pool(tmp_path / "all.jsonl", images), tmp_path / "several" / "one")
    assert "contains selections: one." in " ".join(
        command("several", "--out", "x.json").stderr.split()
    )
    # the subset, not the other tables
    assert len(open_pool(tmp_path / "several", images)) == 10
    wrong = command("out", "--images", images, "--out", "x.json")
    assert wrong.returncode == 2 and "are for a pool" in wrong.stderr
