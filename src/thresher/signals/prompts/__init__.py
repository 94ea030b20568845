"""Prompts, one file each. They are fields of signals, so a changed text means another column."""

from __future__ import annotations

from importlib.resources import files


def read(name: str) -> str:
    """The text of `prompts/NAME.txt`, without the newline that ends the file."""
    return files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
