"""`--drop-suspects`: suspected rows are left out before scoring, in every command that selects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from thresher.cli import main
from thresher.demo.mixes import Mix, Source
from thresher.demo.pool import make_pool
from thresher.viewer.session import Session

ROWS = 240
MIX = Mix(
    "colours",
    "One question, a third of it answered wrongly.",
    (Source("crawl", 1.0, {"colour": 1.0}, {"word": 1.0}, wrong=0.3, instruct=1.0),),
)
NOTE = "left out by --drop-suspects 0.5"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suspects")
    make_pool(folder, ROWS, 4, MIX)
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


def parsed(text: str) -> dict[str, Any]:
    """The JSON between progress and notes."""
    found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return found


def words_of(world: Path, *words: str, model: str = "demo") -> list[str]:
    given = [str(world / "pool.json"), "--store", str(world / "store"), "--model", model]
    return [*given, "--drop-suspects", "0.5", *words]


def test_plan_select_and_repeat(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "store")]
    method = ["--method", "perplexity", "--budget", "100%", *store]
    code, output = run(capsys, "plan", *words_of(world, *method, "--json"))
    plan = parsed(output)
    assert code == 0 and any("no row is left out yet" in note for note in plan["notes"])
    losses = [s for s in plan["signals"] if s["signal"] == "answer_loss"]
    assert len(losses) == 2 and len({s["fingerprint"] for s in losses}) == 2  # none counted twice

    out = tmp_path / "out"
    code, output = run(capsys, "select", *words_of(world, *method, "-o", str(out)))
    assert code == 0 and NOTE in " ".join(output.split())
    taken = set(pq.read_table(out / "selection.parquet")["row"].to_pylist())
    words = [str(world / "pool.json"), "--model", "demo", "--json", *store]
    _, output = run(capsys, "suspects", *words)
    listed = {row["row"] for row in parsed(output)["suspects"]}
    assert len(listed) >= 30 and taken == set(range(ROWS)) - listed

    code, output = run(capsys, "plan", *words_of(world, *method, "--json"))
    plan = parsed(output)
    assert all(s["to_score"] == 0 for s in plan["signals"])
    assert any(NOTE in note for note in plan["notes"])

    config = yaml.safe_load((out / "run.yaml").read_text("utf-8"))["config"]
    assert config["drop_suspects"] == 0.5
    again = tmp_path / "again"
    code, output = run(capsys, "select", "--config", str(out / "run.yaml"), "-o", str(again))
    assert code == 0 and (again / "subset.json").read_bytes() == (out / "subset.json").read_bytes()
    session = Session(out)
    assert session.fixed == "" and set(session.displayed.outcome.rows.tolist()) == taken
    code, output = run(capsys, "signals", str(out), "-o", str(tmp_path / "columns.parquet"))
    table = pq.read_table(tmp_path / "columns.parquet")
    (nll,) = (name for name in table.column_names if name.endswith(".nll"))
    assert code == 0 and table[nll].null_count == len(listed)


def test_a_method_without_a_model_and_kept_rows(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = (world / "hidden_labels.jsonl").read_text("utf-8").splitlines()
    wrong = np.array([label["noisy"] for label in map(json.loads, labels)])
    method = ["--method", "random", "--budget", "100%", "-o", str(tmp_path / "out")]
    code, output = run(capsys, "select", *words_of(world, *method))
    taken = pq.read_table(tmp_path / "out" / "selection.parquet")["row"].to_numpy()
    assert code == 0 and "is not used" not in output and NOTE in " ".join(output.split())
    assert wrong[taken].mean() < wrong.mean() / 2

    left = sorted(set(range(ROWS)) - set(taken.tolist()))
    (tmp_path / "keep.txt").write_text(f"row:{left[0]}\nrow:{left[1]}\n")
    words = [*method[:-1], str(tmp_path / "kept"), "--keep", str(tmp_path / "keep.txt")]
    code, _ = run(capsys, "select", *words_of(world, *words))
    kept = pq.read_table(tmp_path / "kept" / "selection.parquet")["row"].to_pylist()
    assert code == 0 and set(kept) == set(taken.tolist()) | {left[0], left[1]}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--drop-suspects", "0", "--model", "demo"], "above 0 and at most 1"),
        (["--drop-suspects", "1.2", "--model", "demo"], "above 0 and at most 1"),
        (["--drop-suspects", "many", "--model", "demo"], "expected a number"),
        (["--drop-suspects", "0.5"], "--drop-suspects needs a model"),
        (["--drop-suspects", "0.5", "--model", "http://127.0.0.1:9/v1#m"], "behind a server"),
    ],
)
def test_invalid_input(
    words: list[str],
    text: str,
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method = ["--method", "random", "--budget", "10%", "--store", str(tmp_path / "s")]
    code, heard = run(
        capsys, "select", str(world / "pool.json"), *method, "-o", str(tmp_path / "out"), *words
    )
    assert code == 2 and text in " ".join(heard.split())
