"""`thresher train`: output, files, and messages for user errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.tiny_models import build
from tests.training.colour_pools import pool_of, record
from thresher import cli


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Train = Callable[..., Ended]


@pytest.fixture
def train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Train:
    """Runs `thresher train` in `tmp_path` on pool.json, ten rows, on the CPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    pool_of(tmp_path, [record(i) for i in range(10)])

    def call(*words: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["train", "--device", "cpu", *words])
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


def test_help_speaks_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "The model to fine-tune" in text and "Train on rows with videos" in text
    assert "of a server" not in text and "Score rows" not in text


def test_train_writes_a_model_and_a_summary(train: Train, tmp_path: Path) -> None:
    words = (
        "pool.json",
        "--model",
        str(build("llava")),
        "--epochs",
        "2",
        "--batch",
        "5",
        "--lr",
        "1e-3",
        "--out",
        "m",
    )
    first = train(*words)
    assert first.code == 0, first.err
    assert (
        "4 steps on 10 rows" in first.out
        and "learning rate of 0.001" in first.out
        and "Use it: --model m" in first.out
    )
    assert "training: 20 to do" in first.err
    data = json.loads((tmp_path / "m" / "training.json").read_text())
    assert data["recipe"]["epochs"] == 2.0 and data["steps"] == 4
    again = train(*words)
    assert again.code == 0 and "holds this training already" in again.out
    other = train(*words, "--seed", "1")
    assert other.code == 2 and "contains another trained model" in other.err


def test_failed_rows_are_counted_and_listed(train: Train, tmp_path: Path) -> None:
    records = [record(i) for i in range(10)]
    records[2]["image"] = "gone.png"
    pool_of(tmp_path, records)
    ended = train(
        "pool.json",
        "--model",
        str(build("llava")),
        "--steps",
        "1",
        "--batch",
        "4",
        "--full",
        "--out",
        "m",
    )
    assert ended.code == 0, ended.err
    assert (
        "1 of 10 rows could not be trained on" in ended.err
        and "row 2 (id 2)" in ended.err
        and "missing" in ended.err
    )
    assert "5 of 10 rows were not tried: 1 step did not reach them" in ended.err
    assert "1 step on 4 rows in" in ended.out
    assert (tmp_path / "m" / "config.json").is_file()


@pytest.mark.parametrize(
    ("words", "code", "result"),
    [
        (["pool.json", "--epochs", "0"], 2, "--epochs 0"),
        (["pool.json", "--lr=-1e-4"], 2, "--lr -0.0001"),
        (["pool.json", "--batch", "0"], 2, "--batch 0"),
        (["pool.json", "--precision", "fp8"], 2, "auto, fp32, bf16"),
        (["gone.json"], 1, "gone.json does not exist"),
        (["empty.json"], 1, "empty.json"),
        (["pool.json", "--images", "gone"], 1, "gone does not exist"),
        (["pool.json", "--model", "text_only"], 2, "takes no images"),
        (["pool.json", "--model", "./nowhere"], 2, "no such folder"),
        (
            ["pool.json", "--model", "http://127.0.0.1:1/v1#x"],
            2,
            ("behind a server, and training needs weights"),
        ),
        (["pool.json", "--out", "pool.json"], 2, "is a file"),
        (["pool.json", "--out", "/proc/m"], 2, "cannot be written to"),
        (["pool.json", "--out", "model"], 2, "did not train there"),
        (["pool.json", "--device", "cuda:77"], 2, "--device cuda:77 cannot be used here"),
    ],
)
def test_invalid_input(
    train: Train, tmp_path: Path, words: list[str], code: int, result: str
) -> None:
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    words = [str(build("text_only")) if w == "text_only" else w for w in words]
    named = [] if "--model" in words else ["--model", "demo"]
    ended = train(*words, *named, *([] if "--out" in words else ["--out", "m"]))
    assert ended.code == code and result in ended.err, ended
    assert ended.out == "" and "Traceback" not in ended.err and ended.err.count("Error:") == 1
    assert not (tmp_path / "m").exists()
