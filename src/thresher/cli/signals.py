"""`thresher signals`: all columns of a selection, for all rows of the pool, as one parquet file."""

from __future__ import annotations

from typing import Annotated

import typer


def signals(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A folder written by select.", show_default=False)
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The parquet file to write.", show_default=False
        ),
    ],
) -> None:
    """Write all scores behind a selection, of kept and other rows, to a parquet file. No model is
    run."""
    import pyarrow.parquet as pq

    from thresher.console.printing import say, stdout
    from thresher.console.progress import stderr_progress
    from thresher.errors import StoreError
    from thresher.selection.signals_table import signals_table
    from thresher.storage.atomic import atomic_write
    from thresher.storage.lock import folder_lock
    from thresher.storage.writable import check_file

    path = check_file(out, suffixes=(".parquet",))
    table = signals_table(folder)
    try:
        with (
            folder_lock(path.parent, "writes there", stderr_progress()),
            atomic_write(path) as temporary,
        ):
            pq.write_table(table, temporary, compression="zstd")
    except OSError as e:
        raise StoreError(f" cannot be written: {e.strerror or e}.", option="out", value=out) from e
    names = (
        ", ".join(n for n in table.column_names if n not in ("row", "id", "digest"))
        or "no scores: the method needs none"
    )
    say(stdout(), f"{table.num_rows:,} rows written to {out}: {names}.", markup=False)
