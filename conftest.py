"""Doctests are looked for only in modules that have one: collecting the others would import torch
for nothing."""

from __future__ import annotations

from pathlib import Path

SOURCE = Path(__file__).parent / "src"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """True for a module under src/ without an example; None leaves the decision to pytest."""
    if collection_path.suffix != ".py" or SOURCE not in collection_path.parents:
        return None
    return None if ">>>" in collection_path.read_text("utf-8") else True
