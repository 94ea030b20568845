"""Which command's files an output folder contains: a selection's, or a comparison's.

Both write a report.html, and neither command may replace that of the other one or leave its files
among the other one's.
"""

from __future__ import annotations

from pathlib import Path

from thresher.errors import ConfigError

COMPARISON = "compare.json"  # written when all cells of a comparison are finished
CELLS = "cells"  # the folder of its cells; CELL.npz and other files each
NEXT = ".thresher-next"  # in the folder: a complete new selection that is being moved to its place


def refuse_selection(out: str | Path) -> None:
    """Raise ConfigError if the output folder of a comparison contains a selection.

    Arguments:
        out: the folder; need not exist.
    """
    if any((Path(out) / name).exists() for name in ("selection.parquet", NEXT)):
        raise ConfigError(
            " holds a selection, and a comparison would replace its report.html. Give another "
            "folder.",
            option="out",
            value=out,
        )


def refuse_comparison(out: str | Path) -> None:
    """Raise ConfigError if the output folder of a selection contains a comparison, finished or not.

    Arguments:
        out: the folder; need not exist.
    """
    out = Path(out)
    if (out / COMPARISON).exists() or any((out / CELLS).glob("*.npz")):
        raise ConfigError(
            " holds a comparison, and a selection would replace its report.html. Give another "
            "folder.",
            option="out",
            value=out,
        )
