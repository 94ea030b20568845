"""`thresher export`: the rows of a selection folder in the format that a trainer takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that select wrote.", show_default=False)],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="PATH", help="The file (or folder) to write.", show_default=False)
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="F",
            help="llava, sharegpt, llamafactory, swift, messages, parquet or webdataset (default: as the selection's subset).",
            show_default=False,
        ),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed-images", help="Put image bytes into the records: parquet, messages.")
    ] = False,
    absolute: Annotated[bool, typer.Option("--absolute-paths", help="Name images by absolute paths.")] = False,
    relative_to: Annotated[
        str | None,
        typer.Option(
            "--relative-to", metavar="FOLDER", help="Name images by paths that start from here.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a selection's rows in the format of a trainer, in pool order. Says what the format cannot hold."""
    import numpy as np

    from thresher import output
    from thresher.cli.guard import note
    from thresher.errors import ConfigError, PoolError
    from thresher.exporters import default
    from thresher.exporters import export as write
    from thresher.exporters.options import Options
    from thresher.pools import open_pool
    from thresher.progress import Reading
    from thresher.store import Store
    from thresher.types import digests_to_bytes

    if absolute and relative_to is not None:
        raise ConfigError("--absolute-paths and --relative-to exclude each other: give one of them.")
    run = output.read(folder)
    output.spare_the_selection(folder, Path(out))
    rows, then = output.chosen(folder)
    told = run["pool"]
    cache = Store(run["store"]).root / "pools"
    pool = open_pool(
        told["path"], told["images"], cache=cache, progress=Reading(told["path"]), format=told.get("read_as")
    )
    for text in pool.notes:
        note(text)
    if len(pool) <= rows.max(initial=-1) or [d.hex() for d in digests_to_bytes(pool.digest[rows])] != then:
        raise PoolError(
            f"{pool.path} is no longer the pool that {folder} was selected from. Put the old file back, or select again."
        )
    name = format or default(pool)[0]
    if embed and name.partition("-")[0] not in ("parquet", "messages", "webdataset"):
        raise ConfigError(f"--embed-images: {name} names image files. Give --format parquet, messages or webdataset.")
    for text in write(pool, np.sort(rows), Path(out), name, Options(embed, absolute, relative_to)):
        note(text)
    typer.echo(f"{len(rows):,} rows written to {out} ({name}).")
