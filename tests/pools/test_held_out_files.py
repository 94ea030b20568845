"""Which files of a folder are read as evaluation data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thresher.cli import app
from thresher.pools.folders import held_out_files

TEST = ("test", "validation")


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        turns = [
            {"from": "human", "value": f"What is in {name}?"},
            {"from": "gpt", "value": "Rows."},
        ]
        path.write_text(json.dumps({"id": name, "conversations": turns}) + "\n")
    return folder


@pytest.mark.parametrize(
    ("names", "required", "expected"),
    [
        (
            ["data/train-0.jsonl", "data/test-0.jsonl", "data/validation-0.jsonl"],
            TEST,
            ["data/test-0.jsonl"],
        ),
        (["train.jsonl", "val.jsonl"], TEST, ["val.jsonl"]),
        (
            ["coco/train/a.jsonl", "coco/test/a.jsonl", "gqa/test/a.jsonl"],
            TEST,
            ["coco/test/a.jsonl", "gqa/test/a.jsonl"],
        ),
        (["train.jsonl", "val.jsonl", "test.jsonl"], TEST[::-1], ["val.jsonl"]),
        (["train.jsonl", "testdev.jsonl", "minival.jsonl"], TEST, ["testdev.jsonl"]),
        (["a.jsonl", "b.jsonl"], TEST, [""]),
        (["test.jsonl"], TEST, [""]),
    ],
)
def test_evaluation_split_is_chosen(
    tmp_path: Path, names: list[str], required: tuple[str, ...], expected: list[str]
) -> None:
    folder = made(tmp_path / "data set", *names)
    found, split = held_out_files(str(folder), required)
    assert [str(Path(f).relative_to(folder)) for f in found] == [e or "." for e in expected]
    assert bool(split) == (expected != [""])


def test_leaks_are_searched_in_the_test_split(tmp_path: Path) -> None:
    repo = made(tmp_path / "repo", "train.jsonl", "test.jsonl")
    pool = tmp_path / "pool.jsonl"
    pool.write_text((repo / "test.jsonl").read_text() + (repo / "train.jsonl").read_text())
    words = [
        "doctor",
        str(pool),
        "--eval",
        str(repo),
        "--json",
        "--no-near",
        "--store",
        str(tmp_path / "s"),
    ]
    out = CliRunner().invoke(app, words)
    leak = next(f for f in json.loads(out.stdout)["findings"] if f["kind"] == "eval-leak")
    assert leak["rows"] == 1 and leak["examples"][0]["id"] == "test.jsonl"
