"""`thresher select --validation …`: options, messages, replay; and the built-in model as student
and teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("bm25s")
pytest.importorskip("rensa")

import thresher.backends
from tests.cli.targeted_commands import AIMED, BASE, Command
from tests.text_pools import record, write_pool
from tests.validation_sets import Rules, validation


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Rules]:
    """Models by what the user typed."""
    made: dict[str, Rules] = {}

    def resolve(spec: str, **options: Any) -> Any:
        made.setdefault(spec, Rules(spec, knows=(0, 3) if spec == "pupil" else ()))
        return made[spec].handle

    monkeypatch.setattr(thresher.backends, "resolve", resolve)
    monkeypatch.setattr("thresher.backends.identity.check_name", lambda *given: None)
    return made


def test_complete_selection_and_replay(command: Command, rules: dict[str, Rules]) -> None:
    code, out, _ = command(*AIMED, "--teacher", "master", "--out", "a")
    assert code == 0, out
    assert (
        "validation rationale: 18 needed, 18 scored" in out
        and ("row_skills: 60 needed, 60 scored") in out
    )
    assert (
        "The model gets 12 of 18 validation rows wrong (67%)" in out
        and "errors.json, errors.jsonl" in out
    )
    config = yaml.safe_load(Path("a/run.yaml").read_text())
    assert (
        config["config"]["validation"] == "../val.json"
        and config["config"]["settings"]["teacher"] == "master"
    )
    assert list(config["roles"]) == ["teacher"] and config["counts"]["selected"] == 9
    code, out, _ = command("select", "--config", "a/run.yaml", "--out", "b")
    assert code == 0 and "Nothing was scored" in out
    assert Path("a/subset.json").read_bytes() == Path("b/subset.json").read_bytes()
    assert Path("a/errors.jsonl").read_bytes() == Path("b/errors.jsonl").read_bytes()
    code, out, _ = command("signals", "a", "--out", "all.parquet")
    assert code == 0 and "row_skills.skills" in pq.read_table("all.parquet").column_names


def test_teacher_option_equals_the_setting(command: Command, rules: dict[str, Rules]) -> None:
    command(*AIMED, "--set", "teacher=master", "--out", "a")
    _, out, _ = command(*AIMED, "--teacher", "master", "--out", "b")
    assert "Nothing was scored" in out


def test_plan_takes_the_options_of_select(command: Command, rules: dict[str, Rules]) -> None:
    words = (
        "plan",
        *AIMED[1:],
        "--teacher",
        "master",
        "--no-probe",
        "--on-leak",
        "drop",
        "--on-missing",
        "exclude",
    )
    code, out, err = command(*words, "--rounds", "3")
    assert code == 0 and "the first of 3 rounds" in " ".join((out + err).split())
    code, out, err = command(*words)
    assert code == 0 and "rounds" not in out + err


def test_plan_needs_no_folder_and_counts_both_sets(
    command: Command, rules: dict[str, Rules]
) -> None:
    code, out, _ = command("plan", *AIMED[1:], "--teacher", "master", "--no-probe", "--json")
    made = json.loads(out)
    assert code == 0 and made["signals"][0]["label"] == "validation rationale"
    assert made["to_score"] == 18 * 3 + 60 and not any(r.opened for r in rules.values())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((*BASE, "--out", "a"), 2, "--validation"),
        ((*AIMED, "--on-leak", "ignore", "--out", "a"), 2, "refuse, drop"),
        ((*AIMED, "--rounds", "0", "--out", "a"), 2, "at least 1"),
        (
            (*BASE[:3], "random", *BASE[4:], "--rounds", "2", "--out", "a"),
            2,
            "random looks at no errors",
        ),
        (
            (*BASE[:3], "winnow", *BASE[4:], "--rounds", "2", "--out", "a"),
            2,
            "or --set rounds=2 for rounds of winnow",
        ),
        ((*BASE, "--validation", "none.json", "--out", "a"), 1, "none.json"),
        (
            (*BASE[:3], "random", *BASE[4:], "--teacher", "x", "--out", "a"),
            2,
            "has no setting 'teacher'",
        ),
    ],
)
def test_invalid_options_are_reported(
    command: Command, rules: dict[str, Rules], words: tuple[str, ...], code: int, says: str
) -> None:
    ended = command(*words)
    assert ended[0] == code and says in ended[2] and ended[2].count("Error:") == 1
    assert not any(r.opened for r in rules.values())


def test_unneeded_validation_set_is_reported(command: Command, rules: dict[str, Rules]) -> None:
    code, _, err = command(*AIMED[:3], "random", *AIMED[4:], "--out", "a")
    assert code == 0 and "--validation val.json is not used" in err
    assert "validation" not in yaml.safe_load(Path("a/run.yaml").read_text())["config"]


def test_leaks_are_dropped_on_request(command: Command, rules: dict[str, Rules]) -> None:
    write_pool(Path("pool.json"), [*[record(i) for i in range(60)], *validation(2)])
    code, _, err = command(*AIMED, "--teacher", "master", "--out", "a")
    assert code == 1 and "2 rows of the pool repeat questions" in err
    code, out, _ = command(*AIMED, "--teacher", "master", "--on-leak", "drop", "--out", "a")
    assert (
        code == 0
        and ("2 rows of the pool repeat questions of the validation set and were dropped") in out
    )
    assert yaml.safe_load(Path("a/run.yaml").read_text())["config"]["on_leak"] == "drop"


@pytest.mark.slow
def test_the_built_in_model_as_student_and_teacher(command: Command) -> None:
    """It cannot reason; the run completes anyway, and the notes name the fallbacks."""
    write_pool(Path("pool.json"), [record(i) for i in range(12)])
    write_pool(Path("val.json"), validation(6))
    words = ("--teacher", "demo", "--set", "max_new_tokens=24 max_skills=1", "--out", "a")
    code, out, _ = command(*AIMED[:4], "--model", "demo", "--budget", "4", *AIMED[8:], *words)
    assert code == 0, out
    assert "6 of 6 validation rows wrong" in out and "Kept 4 of 12 rows" in out
    assert len(Path("a/errors.jsonl").read_text().splitlines()) == 6
