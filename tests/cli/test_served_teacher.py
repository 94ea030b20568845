"""Error-driven selection with models behind a server: log-probabilities, or sampled answers on
request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from tests.cli.targeted_commands import AIMED, Command
from tests.openai_server import Plan, Server, serving
from tests.text_pools import record, write_pool
from tests.validation_sets import validation

SERVED = (*AIMED[:4], *AIMED[6:])  # without --model pupil


def selected(command: Command, server: Server, *words: str) -> tuple[int, str, str]:
    write_pool(Path("pool.json"), [record(i) for i in range(20)])
    write_pool(Path("val.json"), validation(6))
    return command(*SERVED, "--backend", "openai", "--url", server.url, "--out", "a", *words)


def test_student_and_teacher_behind_a_server(command: Command) -> None:
    with serving(Plan()) as server:
        code, out, err = selected(command, server, "--teacher", f"{server.url}#scripted")
    assert code == 0, err
    assert (
        "validation rationale: 6 needed, 6 scored" in out
        and "row_skills: 20 needed, 20 scored" in out
    )
    errors = [json.loads(line) for line in Path("a/errors.jsonl").read_text().splitlines()]
    assert errors and all(e["steps"] for e in errors)
    letters = [
        body for _, text, body in server.asked if text.endswith("Answer with its letter only.")
    ]
    assert len(letters) == sum(len(e["steps"]) + 1 for e in errors) and all(
        b["logprobs"] for b in letters
    )


def test_missing_log_probabilities_stop_with_advice(command: Command) -> None:
    with serving(Plan(logprobs=False)) as server:
        code, _, err = selected(command, server)
        assert code == 2 and "--set switch=sample:8" in err and err.count("Error:") == 1
        code, out, err = selected(command, server, "--set", "switch=sample:3")
    assert code == 0, err
    assert "validation rationale: 6 needed, 0 scored, 6 reused" in out  # what was paid for is kept


def test_server_has_no_hidden_states(command: Command) -> None:
    with serving(Plan()) as server:
        code, _, err = selected(command, server, "--set", "retrieval=embedding")
    assert code == 2 and "--set retrieval=bm25" in err


def test_a_served_student_cannot_be_trained_between_rounds(command: Command) -> None:
    with serving(Plan()) as server:
        code, _, err = selected(command, server, "--rounds", "2")
        assert code == 2 and "behind a server" in err and not server.asked


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
