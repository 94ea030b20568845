"""`select --method mmssr --set judge=J balance=skill`: skills of one model, scores of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

import thresher.backends
from tests.cli.targeted_commands import Command
from tests.text_pools import write_pool
from thresher.backends import ModelHandle
from thresher.backends.fake import FakeBackend
from thresher.types import ModelIdentity

COMMON, RARE = 280, 20
SELECT = ("select", "mixed.json", "-m", "mmssr", "-b", "30", "--model", "task", "-s", "judge=judge")


def row(i: int) -> dict[str, Any]:
    """One source, two skills: sums, and the colours of fruit in one row of fifteen."""
    rare = i % 15 == 0
    question = f"Which colour has fruit number {i}?" if rare else f"Please add {i} and {i + 1}."
    answer = f"fruit {i} is red" if rare else f"the sum equals {2 * i + 1}"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": f"r{i}", "conversations": turns, "data_source": "web"}


@pytest.fixture
def asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> dict[str, list[FakeBackend]]:
    """The backends that were opened, by model."""
    opened: dict[str, list[FakeBackend]] = {"task": [], "judge": []}

    def resolve(spec: str, **options: Any) -> ModelHandle:
        def open_() -> FakeBackend:
            opened[spec].append(FakeBackend())
            return opened[spec][-1]

        return ModelHandle(spec, ModelIdentity(f"fake:{spec}", "fake", "float32", "pil"), open_)

    monkeypatch.setattr(thresher.backends, "resolve", resolve)
    monkeypatch.setattr("thresher.backends.identity.check_name", lambda *given: None)
    write_pool(tmp_path / "mixed.json", [row(i) for i in range(COMMON + RARE)])
    return opened


def rare_rows(folder: str) -> int:
    return sum(
        "colour" in json.dumps(r) for r in json.loads(Path(folder, "subset.json").read_text())
    )


def test_a_rare_skill_gets_more_than_its_share(
    command: Command, asked: dict[str, list[FakeBackend]]
) -> None:
    code, out, err = command(*SELECT, "balance=skill", "leaves=2", "-o", "a")
    assert code == 2 and "no setting 'leaves'" in err
    code, out, err = command(*SELECT, "balance=skill", "-o", "a")
    assert code == 0, err
    assert len(asked["task"]) == len(asked["judge"]) == 1  # states of the one, scores of the other
    table = pq.read_table("a/selection.parquet")
    assert len(table) == 30 and {"skill", "skill_group", "capability"} <= set(table.column_names)
    everything = pq.read_table("a/evidence.parquet")["skill"].to_pylist()
    assert len(set(everything)) == 10 and 2 <= len(set(table["skill"].to_pylist())) <= 10
    assert "By skill" in out or "By group of skills" in out
    config = yaml.safe_load(Path("a/run.yaml").read_text())
    assert config["config"]["settings"]["balance"] == "skill" and "judge" in config["roles"]
    command(*SELECT, "-o", "b")
    # 2 of 30 rows would be its share
    assert rare_rows("a") > max(rare_rows("b"), 2)


def test_replay_asks_nothing(command: Command, asked: dict[str, list[FakeBackend]]) -> None:
    command(*SELECT, "balance=skill", "-o", "a")
    code, out, _ = command("select", "--config", "a/run.yaml", "-o", "c")
    assert code == 0 and "Nothing was scored" in out
    assert len(asked["task"]) == len(asked["judge"]) == 1
    assert Path("a/subset.json").read_bytes() == Path("c/subset.json").read_bytes()
