"""`thresher suspects` on the command line, with the demo model, and its error messages."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.text_pools import record, write_pool
from thresher.cli import main
from thresher.demo.mixes import Mix, Source
from thresher.demo.pool import make_pool

ROWS = 240
MIX = Mix(
    "colours",
    "One question, a third of it answered wrongly.",
    (Source("crawl", 1.0, {"colour": 1.0}, {"word": 1.0}, wrong=0.3, instruct=1.0),),
)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["suspects", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pool, its hidden labels, and a store for all tests."""
    folder = tmp_path_factory.mktemp("world")
    make_pool(folder, ROWS, 3, MIX)
    return folder


def given(world: Path) -> list[str]:
    return [str(world / "pool.json"), "--model", "demo", "--store", str(world / "store")]


def test_wrong_rows_are_listed_and_written_in_every_format(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "list.jsonl"
    code, output, err = run(capsys, *given(world), "-o", str(path), "--answers", "--show", "5")
    assert code == 0 and " suspected" in output and "model's answer" in output
    assert "Note: The visual input makes the answer more likely in" in err and "only" in err
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    labels = (world / "hidden_labels.jsonl").read_text("utf-8").splitlines()
    wrong = {label["id"]: label["noisy"] for label in map(json.loads, labels)}
    hits = sum(wrong[row["id"]] for row in rows)
    assert len(rows) >= 30 and hits >= 0.8 * len(rows)
    assert sum(row["same"] for row in rows) < 0.2 * len(rows)
    assert all(row["suspicion"] >= 0.5 and row["answer"] is not None for row in rows)
    steps = [round(row["suspicion"], 2) for row in rows]
    assert steps == sorted(steps, reverse=True)

    other = tmp_path / "list.csv"
    code, _, err = run(capsys, *given(world), "-o", str(other))
    assert code == 0 and "to do" not in err  # nothing is asked again
    with open(other, encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [int(r["row"]) for r in read] == [row["row"] for row in rows]
    assert {r["answer"] for r in read} == {""}

    third = tmp_path / "list.parquet"
    code, _, _ = run(capsys, *given(world), "-o", str(third), "--limit", "7")
    table = pq.read_table(third)
    assert code == 0 and table.num_rows == 7 and ["thresher", *table.column_names] == list(rows[0])
    assert table["digest"].to_pylist() == [row["digest"] for row in rows[:7]]


@pytest.mark.parametrize("words", [["--answers"], ["--limit", "7"], ["--threshold", "1"]])
def test_a_page_needs_nothing_else(
    words: list[str], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "list.html"
    code, out, _ = run(capsys, *given(world), "-o", str(path), *words, "--json")
    listed = json.loads(out)["suspects"]
    page = path.read_text("utf-8")
    shown = [int(n) for n in re.findall(r'<h4 id="suspect-(\d+)-row"', page)]
    assert code == 0 and sorted(shown) == sorted(r["row"] for r in listed[:200])
    by_skill: dict[int, list[int]] = {}
    for row in listed[:200]:
        by_skill.setdefault(row["skill"], []).append(row["row"])
    assert shown == [n for rows in by_skill.values() for n in rows]
    assert len(re.findall(r'<section class="skill"', page)) == len(by_skill)
    assert page.count("<dt>Model</dt>") == (len(shown) if words == ["--answers"] else 0)
    assert ("No row is listed." in page) == (not shown)
    assert "http" not in re.sub(r'http-equiv="[^"]+"', "", page) and "not usable" not in page
    assert len(re.findall(r'<img src="data:image/jpeg', page)) == len(shown)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_list_can_be_dropped(
    suffix: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / f"list{suffix}", tmp_path / "out"
    words = [*given(world), "--limit", "9"]
    code, output, _ = run(capsys, *words, "--out", str(path), "--json")
    listed = {row["row"] for row in json.loads(output)["suspects"]}
    words = ["--method", "random", "--budget", "100%", "--drop", str(path), "-o", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(["select", str(world / "pool.json"), *words])
    assert code == 0 and not ended.value.code
    taken = set(pq.read_table(out / "selection.parquet")["row"].to_pylist())
    assert taken == set(range(ROWS)) - listed and len(listed) == 9


def test_json_lists_all_rows_at_threshold_0(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, _ = run(capsys, *given(world), "--json", "--threshold", "0", "--leaves", "4")
    content: dict[str, Any] = json.loads(output)
    assert code == 0 and content["found"] == content["judged"] == ROWS == len(content["suspects"])
    assert content["skills"] == 4 and content["notes"]
    assert {row["skill"] for row in content["suspects"]} == {0, 1, 2, 3}


def test_without_the_check_suspicion_is_limited(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, err = run(capsys, *given(world), "--no-image-gain")
    assert code == 0 and "0 rows of" in output and "no suspicion is above 0.4" in err
    words = ("--no-image-gain", "--json", "--threshold", "0.3")
    code, output, _ = run(capsys, *given(world), *words)
    rows = json.loads(output)["suspects"]
    assert code == 0 and rows and all(row["gain"] is row["agreement"] is None for row in rows)
    assert max(row["suspicion"] for row in rows) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--threshold", "1.5"], "from 0 to 1"),
        (["--threshold", "-1"], "from 0 to 1"),
        (["--limit", "0"], "--limit 0: expected at least 1"),
        (["--leaves", "0"], "--leaves 0: expected at least 1"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0"),
        (["--out", "list.txt"], "ends in .jsonl or .csv or .parquet"),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--model", "http://127.0.0.1:9/v1#m"], "behind a server"),
        (["--device", "gpu"], "--device gpu"),
    ],
)
def test_invalid_options_fail_before_any_work(
    words: list[str],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path / "pool.json", [record(i) for i in range(9)])
    model = [] if "--model" in words else ["--model", "demo"]
    code, _, err = run(capsys, "pool.json", "--store", "store", *model, *words)
    assert code == 2 and text in " ".join(err.split()) and not (tmp_path / "list.txt").exists()


def test_no_model_no_pool_and_the_pool_as_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_pool(tmp_path / "pool.jsonl", [record(i) for i in range(9)])
    before = path.read_bytes()
    code, _, err = run(capsys, "pool.jsonl", "--store", "store")
    assert code == 2 and "needs a model, and none was named" in err
    code, _, err = run(capsys, "none.json", "--store", "store", "--model", "demo")
    assert code == 1 and "none.json" in err
    code, _, err = run(
        capsys, "pool.jsonl", "--store", "store", "--model", "demo", "--out", "pool.jsonl"
    )
    assert code == 2 and "is the pool itself" in err and path.read_bytes() == before


def test_text_only_rows_and_few_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_pool(tmp_path / "pool.json", [record(i) for i in range(40)])
    words = (str(path), "--store", str(tmp_path / "store"), "--model", "demo", "--json")
    code, output, _ = run(capsys, *words)
    content = json.loads(output)
    assert code == 0 and content["suspects"] == [] and content["judged"] == 40
