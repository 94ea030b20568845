"""Writes compare.json and compare.svg into the folder of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

from thresher.compare.plot import plot
from thresher.compare.table import Comparison
from thresher.selection.owner import COMPARISON
from thresher.storage.atomic import write_bytes


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write compare.svg and compare.json. Raises StoreError (disk full).

    Arguments:
        comparison: the comparison.
        out: folder of the comparison.
    """
    write_bytes(out / "compare.svg", plot(comparison.lines).encode())
    write_bytes(
        out / COMPARISON,
        (json.dumps(comparison.to_json(), indent=2, ensure_ascii=False) + "\n").encode(),
    )
