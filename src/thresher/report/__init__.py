"""HTML reports of a selection, of a comparison, and of the difference between two selections.

Each report is one self-contained HTML file. Reads selection folders, pools and compare.json.
Templates escape all text of the pool, and a Content-Security-Policy allows only thresher's own
style and script. `select` calls `try_to_write` last, so that an error in the report cannot fail a
complete selection.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import reason_of

if TYPE_CHECKING:
    from thresher.pools import Pool

NAME = "report.html"


def write(folder: str | Path, pool: Pool | None = None) -> Path:
    """Write report.html into an output folder of `select` or `compare`; returns its path.

    Arguments:
        folder: the output folder.
        pool: the selection's pool; None: opened from the path in run.yaml.

    Raises ConfigError (no such folder), PoolError (the pool is missing or changed), StoreError (not
    writable).
    """
    if (Path(folder) / "compare.json").is_file():
        from thresher.report.compare_report import write as write_comparison

        return write_comparison(folder)
    from thresher.report.select_report import write as write_selection

    return write_selection(folder, pool)


def try_to_write(folder: str | Path, pool: Pool | None = None) -> str:
    """Like `write`, but returns an error message instead of raising; "" on success.

    Only an interrupt is raised.

    Arguments:
        folder, pool: as for `write`.
    """
    try:
        write(folder, pool)
    # the selection is complete: no error of its report may fail the command
    except Exception as error:  # noqa: BLE001
        why = reason_of(error)
        return (
            f"The report could not be written: {why}. Everything else was written; `thresher "
            f"report {folder}` tries again."
        )
    return ""
