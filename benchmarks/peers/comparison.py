"""What a comparison consists of. Standard library only: peers' environments import it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Job = Callable[[], Any]
"""What is timed; returns its result, which JSON can represent."""
Prepare = Callable[[Path, Path], Job]
"""(folder of the inputs, new empty folder to write to) -> the job. Only the job is timed."""


@dataclass(frozen=True)
class Tool:
    """Something that does the job of a comparison."""

    name: str
    prepare: Prepare
    package: str = ""
    """What it is installed as; empty: written from a published algorithm, or thresher."""
    environment: str = ""
    """Stem of its requirements file; empty: the project's own environment."""
    why: str = ""
    """Why thresher is slower, uses more memory, or finds something else. For the page."""


@dataclass(frozen=True)
class Comparison:
    """One job, done by thresher and by its peers."""

    title: str
    job: str
    """What is done with what, and what counts as the result. For the page."""
    rows: int
    make: Callable[[Path, int], None]
    """Write the inputs for so many rows to a folder."""
    thresher: Tool
    peers: tuple[Tool, ...]
    judge: Callable[[Path, Any, Any], tuple[str, bool]]
    """(inputs' folder, thresher's result, a tool's) -> (what it found, whether it is as good as
    thresher's). Called for thresher's own result too."""
    few: int = 40
    """Rows that each tool processes first, untimed: for imports and compilation."""
