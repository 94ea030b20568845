"""Output of `thresher plan`: one line per shared pass, and the cost of servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.text_pools import record, write_pool
from thresher import cli
from thresher.cli.plan import lines
from thresher.selection.signal_plan import SignalPlan

URL = "http://127.0.0.1:9/v1"  # no server listens there; nothing is sent
SERVED = ("--backend", "openai", "--url", URL, "--model", "m")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_pool(tmp_path / "pool.json", [record(i) for i in range(50)])


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code, and all that was printed."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", "pool.json", "--method", "mmssr", "--budget", "10", "--no-probe", *words])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


def rows_of(text: str) -> list[list[str]]:
    """The cells of the table."""
    _, _, table = text.partition("─\n")
    return [line.split("  ") for line in table.split("\n \n")[0].splitlines() if line.strip()]


def signal(
    label: str, kind: str, to_score: int, passes: int, tokens: int | None, asked_with: str = ""
) -> SignalPlan:
    return SignalPlan(
        label=label,
        signal=kind,
        fingerprint=label,
        needed=100,
        stored=100 - to_score,
        to_score=to_score,
        upper_bound=False,
        passes=passes,
        tokens=tokens,
        hours=None if tokens is None else tokens / 1000,
        asked_with=asked_with,
    )


def test_shared_questions_are_one_line_and_cost_one_pass(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = plan(capsys, "--model", "demo")
    assert code == 0 and text.count("score_") == 1 == text.count("style_")
    assert "score_* (14), style_* (9)" in text and "In total 50 rows to score" in text
    code, text = plan(capsys, "--model", "demo", "--json")
    data = json.loads(text)
    # in detail
    assert len(data["signals"]) == 23 and data["to_score"] == 23 * 50 and data["passes"] == 50
    first = data["signals"][0]["label"]
    assert {s["asked_with"] for s in data["signals"]} == {first}


def test_separate_questions_are_one_line_and_cost_one_pass_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = plan(capsys, "--model", "demo", "--set", "score=generate")
    assert code == 0 and "score_* (14) " in text and "style_* (9) " in text
    assert f"In total {15 * 50:,} rows to score" in text


def test_every_line_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from thresher.console import printing

    monkeypatch.setattr(printing, "stdout", lambda: Console(width=80, highlight=False))
    code, text = plan(capsys, "--model", "demo", "--set", "teacher=demo")
    table = [line for line in text.splitlines() if "*" in line or "─" in line]
    assert code == 0 and table and max(map(len, table)) <= 80
    # a name is not broken in the middle
    assert any("teacher_style_* (9)" in line for line in table)


def test_lines_are_split_where_counts_differ() -> None:
    asked = [
        signal("score_a", "judge", 0, 0, 0, "score_a"),
        signal("score_b", "judge", 40, 40, 400, "score_a"),
        signal("style_0", "style", 40, 0, 0, "score_a"),
        signal("loss_p", "one_shot", 100, 100, 10),
        signal("loss_w", "one_shot", 100, 100, None),
    ]
    found = [(line.name, line.to_score, line.rows, line.tokens) for line in lines(asked)]
    assert found == [
        ("score_a", 0, 0, 0),
        ("score_b, style_0", 40, 40, 400),
        ("loss_p", 100, 100, 10),
        ("loss_w", 100, 100, None),
    ]


def test_server_plan_counts_requests_and_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = plan(capsys, *SERVED)
    assert code == 0 and "750 requests to a server" in text and "prices" not in text
    prices = ("--price-in", "2", "--price-out", "10")
    code, text = plan(capsys, *SERVED, *prices, "--json")
    data = json.loads(text)
    # one token a score, a short text for the styles
    paid = 2 * data["tokens"] + 10 * (14 * 50 * 1 + 50 * 32)
    assert data["cost"] == pytest.approx(paid / 1e6)
    # the question's words are paid, too
    assert sum(s["tokens"] for s in data["signals"][:14]) > 14 * 50 * 1.4 * 25
    code, text = plan(capsys, *SERVED, *prices, "--max-cost", "0.01", "--max-requests", "749")
    assert f"At the prices given about {data['cost']:.4g}" in text
    assert "--max-cost 0.01 stops" in text and "--max-requests 749 stops" in text
    code, text = plan(capsys, *SERVED, *prices, "--max-cost", "100", "--max-requests", "750")
    assert code == 0 and "stops the run" not in text


def test_gpus_are_estimated_without_loading_the_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = plan(capsys, "--model", "demo", "--gpus")
    assert code == 0 and "GPU (estimate)" in text and "H200 SXM" in text
    assert "GPUs: estimated, not measured" in text and "docs/plan.md" in text
    code, text = plan(capsys, "--model", "demo", "--gpus", "--json")
    slow, *_, fast = json.loads(text)["gpus"]
    assert slow["gpu"] == "L4" and slow["estimated"] and slow["fits"]
    # the hours are those of the same operations
    assert slow["hours"] / fast["hours"] == pytest.approx(989.4 / 121)
    code, text = plan(capsys, *SERVED, "--gpus")
    assert code == 0 and "L4" not in text
    assert "GPUs: nothing is estimated for m, whose size is not known" in text


def test_a_run_records_what_its_plan_predicted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, text = plan(capsys, "--model", "demo", "--method", "perplexity", "--probe", "--json")
    assert code == 0 and (tmp_path / "store" / "plans").is_dir()
    predicted = json.loads(text)
    words = ["select", "pool.json", "--method", "perplexity", "--budget", "10", "--model", "demo"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--out", "out"])
    assert not ended.value.code
    cost = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["cost"]
    assert cost["predicted"]["by"] == "plan" and cost["predicted"]["scores"] == 50
    seconds = 3600 * predicted["hours"]
    assert cost["predicted"]["scoring_seconds"] == pytest.approx(seconds, abs=0.001)
    assert cost["predicted"]["peak_bytes"] == predicted["peak_bytes"]
    assert cost["measured"]["scores"] == 50 and cost["measured"]["scoring_seconds"] > 0
