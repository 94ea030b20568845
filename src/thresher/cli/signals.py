"""`thresher signals`: every column that a selection used, for the whole pool, as one parquet file."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated

import typer


def signals(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder written by select.", show_default=False)],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="The parquet file to write.", show_default=False)
    ],
) -> None:
    """Write all scores behind a selection, of kept and other rows, to a parquet file. No model is run."""
    import pyarrow.parquet as pq

    from thresher import output
    from thresher.errors import ConfigError, StoreError
    from thresher.summary import say, stdout

    path = Path(out)
    if path.is_dir() or path.suffix != ".parquet":
        raise ConfigError(f"--out {out}: expected the name of a file that ends in .parquet.")
    table = output.signals_table(folder)
    aside = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            pq.write_table(table, aside, compression="zstd")
            os.replace(aside, path)  # whole, or what stood there before
        finally:
            aside.unlink(missing_ok=True)
    except OSError as e:
        raise StoreError(f"--out {out} cannot be written: {e.strerror or e}.") from e
    names = (
        ", ".join(n for n in table.column_names if n not in ("row", "id", "digest"))
        or "no scores: the method needs none"
    )
    say(stdout(), f"{table.num_rows:,} rows written to {out}: {names}.", markup=False)
