"""`thresher evaluate` as a user runs it, on the demo model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thresher.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_demo_model_on_ten_rows(
    tiny_pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "result.json"
    given = [
        "--data",
        str(tiny_pool),
        "--images",
        str(tiny_pool.parent / "images"),
        "--store",
        str(tmp_path / "store"),
    ]
    given += ["--model", "demo", "--out", str(out)]
    code, output, _ = run(capsys, *given)
    assert (
        code == 0
        and "Accuracy" in output
        and "chosen among candidates" in output
        and "generated" in output
    )
    content = json.loads(out.read_text())
    assert (
        content["n"] == 10
        and set(content["by"]) == {"one", "two", "text"}
        and out.with_suffix(".parquet").exists()
    )
    code, output, _ = run(capsys, *given)
    assert code == 0 and "0 asked of the model now" in output
    assert json.loads(out.read_text()) == content


def test_missing_arguments_are_reported(
    tmp_path: Path, tiny_pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys)[0] == 2
    code, _, err = run(
        capsys, "--data", str(tiny_pool), "--model", "demo", "--out", str(tmp_path / "x.csv")
    )
    assert code == 2 and ".json" in err
    code, _, err = run(
        capsys,
        "--data",
        str(tiny_pool),
        "--model",
        "demo",
        "--score",
        "chioce",
        "--store",
        str(tmp_path),
    )
    assert code == 2 and "Did you mean 'choice'" in err


@pytest.mark.slow
def test_easy_vqa(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shared / "data" / "easy_vqa"
    out = tmp_path / "result.json"
    given = ["--data", str(data / "test.json"), "--images", str(data / "images"), "--model", "demo"]
    code, _, _ = run(capsys, *given, "--store", str(tmp_path / "store"), "--out", str(out))
    content = json.loads(out.read_text())
    assert (
        code == 0
        and content["n"] == 4889
        and content["scored_by"] == {"choice": 3586, "generate": 1303}
    )
