"""docs/architecture.md walks through functions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "thresher"


def stops() -> list[str]:
    """`file.py:name` of every stop in the columns for today, in order, each once."""
    rows = re.findall(
        r"^\| \d+ \| `[^`]+` \| `([^`]+)` \|",
        (ROOT / "docs/architecture.md").read_text("utf-8"),
        re.M,
    )
    return list(dict.fromkeys(rows))


def test_page_has_three_walks() -> None:
    assert len(stops()) > 40


@pytest.mark.parametrize("stop", stops())
def test_every_stop_exists_in_the_code(stop: str) -> None:
    file, _, name = stop.partition(":")
    tree = ast.parse((SOURCE / file).read_text("utf-8"))
    defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    assert name in defined, f"docs/architecture.md names {stop}: update the walk"
