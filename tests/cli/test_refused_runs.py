"""A run that is refused, or fails before it has written anything, leaves no output folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from examples.tiny_adapter import TinyAdapter, write_model
from typer.testing import CliRunner

from tests.training.colour_pools import pool_of, record
from thresher.backends.adapted import Encoded
from thresher.cli import app


class FailsLate(TinyAdapter):
    """Opens, and fails at the first row."""

    def logits(self, row: Encoded) -> torch.Tensor:
        raise RuntimeError("no kernel")


LATE = f"--model model --adapter {__name__}:FailsLate"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pools and models that can and cannot be used; there is no store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    pool_of(tmp_path, [record(i) for i in range(8)])
    (tmp_path / "other.json").write_bytes((tmp_path / "pool.json").read_bytes())
    (tmp_path / "empty.json").write_text("[]")
    write_model(tmp_path / "model")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "llava"}')
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "select pool.json -o new/out -b 3 -m no_such_method",
        "select no_pool.json -o new/out -b 3 -m random",
        "select empty.json -o new/out -b 3 -m random",
        "select pool.json -o new/out -b 3 -m random --quota text_only=9",
        "select pool.json -o new/out -b 3 -m perplexity --model no_such_folder",
        "select pool.json -o new/out -b 3 -m winnow --model model",
        f"select pool.json -o new/out -b 3 -m perplexity {LATE}",
        "select pool.json -o new/out -b 3 -m random --keep no_such_file",
        "evaluate --data pool.json -o new/out.json --model no_such_folder",
        f"evaluate --data pool.json -o new/out.json {LATE}",
        "evaluate --data no_pool.json -o new/out.json --model demo",
        "suspects pool.json -o new/out.jsonl --model no_such_folder",
        "suspects pool.json -o new/out.jsonl --model broken",
        "suspects no_pool.json -o new/out.html --model demo",
        "compare pool.json -o new/out -b 3 -m random --eval other.json --model no_such_folder",
        "compare pool.json -o new/out -b 300 -m random --eval no_pool.json --model demo",
        "compare pool.json -o new/out -b 3 -m random --eval pool.json --model demo",
        "train pool.json -o new/out --model no_such_folder",
        "train no_pool.json -o new/out --model demo",
        "train empty.json -o new/out --model demo",
        "train pool.json -o new/out --model broken",
        "export no_selection -o new/out.json",
        "signals no_selection -o new/out.parquet",
        "diff no_selection no_other -o new/out.html",
        "store export new/out.tar",
    ],
)
def test_nothing_is_left_behind(command: str, here: Path) -> None:
    before = sorted(here.iterdir())
    ended = CliRunner().invoke(app, shlex.split(command))
    assert ended.exit_code in (1, 2) and "Error: " in ended.output, ended.output
    assert "No such option" not in ended.output and "Missing option" not in ended.output
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.output
    after = [path for path in sorted(here.iterdir()) if path.name != "store"]
    assert after == before


@pytest.mark.parametrize(
    "command",
    [
        "select pool.json -o new/out -b 3 -m no_such_method",
        "select pool.json -o new/out -b 0 -m random",
        "select pool.json -o new/out -b 3 -m clipper --model demo --set bins=0",
        "select pool.json -o pool.json -b 3 -m random",
        "select pool.json -o new/out -b 3 -m perplexity --model no_such_folder",
        "select pool.json -o new/out -b 3 -m perplexity --model broken",
        "select pool.json -o new/out -b 3 -m winnow --model demo --embedder no_such_folder",
        "select pool.json -o new/out -b 3 -m error_driven --model demo --validation other.json "
        "--teacher no_such_folder",
        f"select pool.json -o new/out -b 3 -m winnow {LATE}",
        "select pool.json -o new/out -b 3 -m winnow --backend openai --url http://127.0.0.1:1/v1 "
        "--model served",
        "plan pool.json -b 3 -m perplexity --model no_such_folder",
        "evaluate --data pool.json --model no_such_folder",
        "evaluate --data pool.json --model demo --max-new-tokens 0",
        "evaluate --data pool.json --model demo --score every",
        "suspects pool.json --model demo --threshold 3",
        "suspects pool.json --model no_such_folder",
        "train pool.json -o new/out --model no_such_folder",
        "compare pool.json -o new/out -b 3 -m random --eval other.json --model no_such_folder",
    ],
)
def test_what_needs_no_rows_and_no_weights_is_checked_before_the_store_has_anything(
    command: str, here: Path
) -> None:
    ended = CliRunner().invoke(app, shlex.split(command))
    assert ended.exit_code in (1, 2) and "Error: " in ended.output, ended.output
    assert "No such option" not in ended.output and "Missing option" not in ended.output
    assert not (here / "store").exists()
