"""`thresher report`: write report.html again for a folder of `select` or `compare`."""

from __future__ import annotations

from typing import Annotated

import typer


def report(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="A folder written by select or compare.", show_default=False
        ),
    ],
) -> None:
    """Write report.html into the folder of a selection or comparison: one file that opens offline.

    A selection's report needs its pool in its original place; no model is run.
    """
    from pathlib import Path

    from thresher.report import write

    path = write(folder)
    typer.echo(f"Written to {path} ({Path(path).stat().st_size / 1e6:.1f} MB).")
