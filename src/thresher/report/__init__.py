"""Reports for people: what a selection kept and why, what a comparison found, how two selections
differ.

Each is one HTML file that needs nothing else and loads nothing. Reads selection folders, pools and
compare.json; writes the one file it is asked for. What a pool says is data: templates escape it,
and a Content-Security-Policy allows only the style and script that thresher ships.

`write` is for the end of `select`: the selection is safe by then, and a report that fails must not
take it along.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thresher.pools import Pool

NAME = "report.html"


def write(folder: str | Path, pool: Pool | None = None) -> Path:
    """Write report.html into a folder that `select` or `compare` wrote, and say where it is.

    `pool`: the opened pool of the selection; opened anew when None. Raises ConfigError (no such
    folder), PoolError (the pool is gone or changed), StoreError (not writable).
    """
    if (Path(folder) / "compare.json").is_file():
        from thresher.report.compare_report import write as write_comparison

        return write_comparison(folder)
    from thresher.report.select_report import write as write_selection

    return write_selection(folder, pool)


def try_to_write(folder: str | Path, pool: Pool | None = None) -> str:
    """As `write`; "" when it worked, else the message for the user. Raises nothing but an
    interrupt."""
    try:
        write(folder, pool)
    # the selection is complete: no error of its report may fail the command
    except Exception as error:  # noqa: BLE001
        why = (str(error) or type(error).__name__).rstrip(".")
        return (
            f"The report could not be written: {why}. Everything else was written; `thresher "
            f"report {folder}` tries again."
        )
    return ""
