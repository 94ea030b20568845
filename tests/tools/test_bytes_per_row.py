"""The sizes in docs/outputs.md are those of the columns that methods store today."""

from __future__ import annotations

import re

import pytest
from tools import bytes_per_row as tool

from thresher.methods import METHODS
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import Embedding
from thresher.types import ModelIdentity

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")


def test_the_page_shows_the_sizes_of_today() -> None:
    """Within 5%: compression differs between versions of pyarrow."""
    page = tool.written(tool.PAGE.read_text("utf-8"))
    shown = {
        name: (int(total.replace(",", "")), re.sub(r" [\d,]+(?=, |$)", "", parts))
        for name, total, parts in re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (.*) \|$", page, re.M)
    }
    assert list(shown) == sorted(METHODS)
    for name, total, parts in tool.table():
        assert shown[name][0] == pytest.approx(total, rel=0.05, abs=1), "run tools/bytes_per_row.py"
        assert shown[name][1] == re.sub(r" [\d,]+(?=, |$)", "", parts), name


def test_a_column_takes_its_key_and_its_values() -> None:
    loss = tool.bytes_per_row(AnswerLoss(MODEL), 5000)
    assert 32 + 4 < loss < 32 + 4 + 4 + 1 + 2  # key; nll; tokens, greedy_match and overhead
    vector = tool.bytes_per_row(Embedding(MODEL), 5000)
    assert 32 + 400 < vector < 32 + 512 + 2  # 256 half-precision numbers, compressed a little


def test_methods_without_a_model_store_nothing() -> None:
    assert {name for name in METHODS if not list(tool.stored_signals(name))} == {
        "length",
        "random",
        "stratified",
    }
