"""`thresher verify-backend`: the built-in model in this process and behind a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.openai_server import Plan, Real, serving
from thresher import cli


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(
    capsys: pytest.CaptureFixture[str], pool: Path, *words: str, model: str = "demo"
) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["verify-backend", str(pool), "--images", str(pool.parent / "images")]
            + ["--model", model, *words]
        )
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return int(ended.value.code or 0), captured.out, captured.err


def found(out: str) -> dict[str, dict[str, Any]]:
    return {number["name"]: number for number in json.loads(out)["numbers"]}


def test_equal_models_agree(capsys: pytest.CaptureFixture[str], tiny_pool: Path) -> None:
    with serving(Plan(model="demo", name="mine")) as server:
        code, out, err = run(capsys, tiny_pool, "--url", server.url)
        assert code == 0, out + err
        assert "The numbers agree (tolerance: 0.02 nats on average" in out
        code, out, _ = run(capsys, tiny_pool, "--url", server.url, "--rows", "4", "--json")
    numbers = found(out)
    assert code == 0 and json.loads(out)["rows"] == 4
    assert list(numbers) == [
        "loss of the answer",
        "tokens of the answer",
        "loss after a demonstration",
        "answers to a question",
    ]
    assert all(number["max"] < 1e-4 and number["agrees"] for number in numbers.values())
    assert numbers["loss of the answer"]["rows"] == 4
    assert numbers["loss of the answer"]["correlation"] == pytest.approx(1)


def test_other_numbers_are_named(
    capsys: pytest.CaptureFixture[str], tiny_pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose losses are a little higher."""
    real = Real.prompt

    def higher(self: Real, messages: Any, settings: Any) -> Any:
        entries, stops = real(self, messages, settings)
        for entry in entries[1:]:
            for values in entry.values():
                values["logprob"] -= 0.25
        return entries, stops

    monkeypatch.setattr(Real, "prompt", higher)
    with serving(Plan(model="demo", name="demo")) as server:
        words = ("--url", server.url, "--rows", "5")
        code, out, _ = run(capsys, tiny_pool, *words, "--json")
        loss = found(out)["loss of the answer"]
        assert code == 1 and not json.loads(out)["agree"]
        assert loss["mean"] == pytest.approx(0.25, abs=1e-3) and len(loss["worst"]) == 3
        assert loss["worst"][0].keys() == {"row", "hf", "openai"}
        assert found(out)["answers to a question"]["agrees"]
        code, out, _ = run(capsys, tiny_pool, *words)
        assert code == 1 and "The numbers differ" in out and "largest differences: row" in out
        assert run(capsys, tiny_pool, *words, "--tolerance", "0.3")[0] == 0


def test_a_server_without_losses_is_compared_by_its_answers(
    capsys: pytest.CaptureFixture[str], tiny_pool: Path
) -> None:
    with serving(Plan(model="demo", name="demo", prompt_logprobs=False)) as server:
        code, out, _ = run(capsys, tiny_pool, "--url", server.url, "--rows", "3")
    assert code == 0 and "answers to a question" in out and "loss of the answer" not in out
    assert "Not compared. openai: The model 'demo' is behind a server that does not give" in out
    assert "--model with a folder" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs the server's URL"),
        (("--url", "http://127.0.0.1:9/v1", "--backends", "hf"), "expected two of hf, openai"),
        (("--url", "http://127.0.0.1:9/v1", "--rows", "0"), "--rows 0: expected at least 1"),
        (
            ("--url", "http://127.0.0.1:9/v1", "--tolerance", "-1"),
            "--tolerance -1: expected nats",
        ),
    ],
)
def test_wrong_options(
    capsys: pytest.CaptureFixture[str], tiny_pool: Path, words: tuple[str, ...], message: str
) -> None:
    served = ("--served-model", "m") if "--url" in words else ()
    code, _, err = run(capsys, tiny_pool, *words, *served)
    assert code == 2 and message in " ".join(err.split())
