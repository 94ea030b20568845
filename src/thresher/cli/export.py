"""`thresher export`: the rows of a selection folder in the format that a trainer takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that select wrote.", show_default=False)],
    out: Annotated[str, typer.Option("--out", "-o", metavar="PATH", help="The file to write.", show_default=False)],
    format: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", metavar="F", help="llava-json or llava-jsonl (default: as the pool).", show_default=False
        ),
    ] = None,
) -> None:
    """Write a selection's rows to one file, in pool order, each record as the pool has it."""
    import numpy as np
    import pyarrow.parquet as pq

    from thresher import output
    from thresher.cli.prepare import open_the_pool
    from thresher.errors import PoolError
    from thresher.exporters import export as write
    from thresher.store import Store
    from thresher.types import digests_to_bytes

    run = output.read(folder)
    chosen = pq.read_table(Path(folder) / "selection.parquet", columns=["row", "digest"])
    rows = chosen["row"].to_numpy()
    pool = open_the_pool(run["pool"]["path"], run["pool"]["images"], Store(run["store"]))
    then = chosen["digest"].to_pylist()
    if len(pool) <= rows.max(initial=-1) or [d.hex() for d in digests_to_bytes(pool.digest[rows])] != then:
        raise PoolError(
            f"{pool.path} is no longer the pool that {folder} was selected from. Put the old file back, or select again."
        )
    write(pool, np.sort(rows), Path(out), format)
    typer.echo(f"{len(rows):,} rows written to {out} ({format or pool.format}).")
