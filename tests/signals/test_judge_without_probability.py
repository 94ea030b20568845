"""A judge that gives no probability to its six answers stops the run; --force continues with the
stored scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.openai.odd_server import Answer, answering, completion, said
from tests.text_pools import record, write_pool
from thresher import cli
from thresher.backends.openai.options import ServerOptions
from thresher.signals.capabilities import CAPABILITIES
from thresher.signals.judge import NO_ANSWER, Judge
from thresher.types import ModelIdentity


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(
    capsys: pytest.CaptureFixture[str], *words: str, command: str = "select"
) -> tuple[int, str]:
    start = [
        command,
        "pool.json",
        "--method",
        "mmssr",
        "--set",
        "capabilities=ocr",
        "--budget",
        "3",
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main([*start, *words])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return int(ended.value.code or 0), printed.out + printed.err


def answers(top: dict[str, float]) -> Any:
    def answer(body: dict[str, Any]) -> Answer:
        found = completion("word/short-phrase" if "Styles" in said(body) else "I")
        entries = [{"token": token, "logprob": value} for token, value in top.items()]
        found["choices"][0]["logprobs"] = {"content": [{**entries[0], "top_logprobs": entries}]}
        return 200, found, {}

    return answer


@pytest.mark.parametrize("rows", [6, 60])
@pytest.mark.parametrize(
    "top", [{"I": -0.001, "The": -8.0, "4": -9.0}, {"<think>": -1e-6, "3": -16.0, "0": -15.0}]
)
def test_served_judge_with_other_answers_stops_the_run(
    capsys: pytest.CaptureFixture[str], rows: int, top: dict[str, float]
) -> None:
    write_pool(Path("pool.json"), [record(i) for i in range(rows)])
    with answering(answers(top)) as server:
        served = ["--backend", "openai", "--url", server.url, "--model", "m"]
        code, printed = run(capsys, *served, "--out", "o")
        assert (
            code == 2
            and "0.0" in printed
            and "add --force" in printed
            and not Path("o/selection.parquet").exists()
        )
        asked = len(server.asked)
        assert run(capsys, *served, "--out", "o")[0] == 2  # the stored scores are refused as well
        code, printed = run(capsys, *served, "--out", "o", "--force", "--set", "threshold=0")
        assert code == 0 and "mostly answers something else" in printed
        # a score once, and the styles; what was being answered when the run stopped, twice
        assert len(server.asked) <= max(asked, rows) + rows + ServerOptions().concurrency
        assert run(capsys, "--config", "o/run.yaml", "--out", "again")[0] == 0


def test_served_judge_with_low_mass_gives_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    write_pool(Path("pool.json"), [record(i) for i in range(20)])
    with answering(answers({"I": -0.1, "4": -3.5, "3": -4.0})) as server:
        code, printed = run(
            capsys, "--backend", "openai", "--url", server.url, "--model", "m", "--out", "o"
        )
    assert code == 0 and "puts little of its probability" in printed


def test_the_built_in_model_is_no_judge(capsys: pytest.CaptureFixture[str]) -> None:
    write_pool(Path("pool.json"), [record(i) for i in range(8)])
    code, printed = run(capsys, "--model", "demo", "--out", "o")
    assert code == 2 and "the judge puts 0.0" in printed and "add --force" in printed
    code, printed = run(capsys, "--model", "demo", "--out", "o", "--force")
    assert code == 0 and "8 reused" in printed
    code, printed = run(capsys, "--model", "demo", command="plan")
    text = " ".join(printed.split())
    assert code == 0 and "Nothing is left to score" in text, printed
    assert "mean nothing, so `select` stops unless --force is given. score_" in text


def test_other_failures_do_not_count_against_the_judge() -> None:
    judge = Judge(ModelIdentity("sha256:0", "llava", "float32", "pil"), CAPABILITIES[0])
    mass = {"mass": np.array([0.9, 0.0, np.nan, 0.0], np.float32)}
    assert judge.fault(mass, ["", "HTTP 500", "", "HTTP 500"]) == ""
    without_kind = NO_ANSWER.partition(": ")[2]  # as earlier versions stored it
    for text in (NO_ANSWER, without_kind):
        assert "0.00% of its probability" in judge.fault(mass, [text, "HTTP 500", "", text])
    almost = {"mass": np.full(4, 0.00998, np.float32)}  # below the limit, and 1.00% if rounded
    assert (
        "puts 0.99% of its probability on the answers 0 to 5 (mean of 4 rows; at least 1% is"
        in (judge.fault(almost, [""] * 4))
    )
    assert judge.fault({"mass": np.zeros(2)}, ["HTTP 500", "HTTP 500"]) == ""
