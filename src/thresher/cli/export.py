"""`thresher export`: the rows of a selection or of a pool, in the format of a trainer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o

if TYPE_CHECKING:
    import numpy as np

    from thresher.pools import Pool


def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DIR|POOL", help="A folder written by select, or any pool.", show_default=False
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="PATH", help="The file (or folder) to write.", show_default=False
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="F",
            help="llava, sharegpt, llamafactory, swift, messages, parquet or webdataset (default: "
            "as select would write it).",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="For a pool: folder that relative image paths start from (default: the pool's "
            "folder).",
            show_default=False,
        ),
    ] = None,
    read_as: Annotated[
        str | None,
        typer.Option(
            "--read-as",
            metavar="F",
            help="Read the pool as this format (default: detected from its content).",
            show_default=False,
        ),
    ] = None,
    trust_paths: Annotated[bool | None, o.option("trust_paths")] = None,
    embed: Annotated[
        bool,
        typer.Option("--embed-images", help="Put image bytes into the records: parquet, messages."),
    ] = False,
    absolute: Annotated[
        bool, typer.Option("--absolute-paths", help="Write absolute image paths.")
    ] = False,
    relative_to: Annotated[
        str | None,
        typer.Option(
            "--relative-to",
            metavar="FOLDER",
            help="Write image paths relative to this folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the rows of a selection or pool in a trainer's format, in pool order. Reports what it
    cannot hold."""
    from thresher.cli.guard import note
    from thresher.errors import ConfigError, opt
    from thresher.exporters import default
    from thresher.exporters import export as write
    from thresher.exporters.options import Options
    from thresher.selection import folder as output

    if absolute and relative_to is not None:
        raise ConfigError(
            f" and {opt('relative_to')} exclude each other: give one of them.",
            option="absolute_paths",
            value=True,
        )
    if (Path(what) / "run.yaml").is_file():
        if images is not None or read_as is not None or trust_paths is not None:
            raise ConfigError(
                f", {opt('read_as')} and {opt('trust_paths', True)} are for a pool; {what} is a "
                "selection, which knows its own.",
                option="images",
            )
        output.refuse_to_overwrite_selection(what, Path(out))
        pool, rows = _selected(what)
    else:
        pool, rows = _whole(what, images, read_as, bool(trust_paths))
    name = format or default(pool)[0]
    if embed and name.partition("-")[0] not in ("parquet", "messages", "webdataset"):
        raise ConfigError(
            f": {name} names image files. Give {opt('format')} parquet, messages or webdataset.",
            option="embed_images",
            value=True,
        )
    for text in write(pool, rows, Path(out), name, Options(embed, absolute, relative_to)):
        note(text)
    typer.echo(f"{len(rows):,} rows written to {out} ({name}).")


def _selected(folder: str) -> tuple[Pool, np.ndarray]:
    """The pool that a selection was made from, and its rows in pool order. Raises PoolError if
    the pool changed."""
    import numpy as np

    from thresher.cli.guard import note
    from thresher.console.progress import ReadProgress
    from thresher.errors import PoolError
    from thresher.pools import open_pool
    from thresher.selection import folder as output
    from thresher.storage.opening import pool_cache
    from thresher.types import digests_to_bytes

    run = output.read(folder)
    rows, then = output.chosen(folder)
    stored = run["pool"]
    cache = pool_cache(run["store"])
    reading, trust = ReadProgress(stored["path"]), stored.get("trust_paths", False)
    pool = open_pool(
        stored["path"],
        stored["images"],
        cache,
        reading,
        stored.get("read_as"),
        trust,
        reading.images,
    )
    for text in pool.notes:
        note(text)
    if (
        len(pool) <= rows.max(initial=-1)
        or [d.hex() for d in digests_to_bytes(pool.digest[rows])] != then
    ):
        raise PoolError(
            f"{pool.path} is no longer the pool that {folder} was selected from: its rows or "
            "images have changed, or an older version of thresher, which identified images by "
            "path and size, made the selection. Put the old files back, or select again."
        )
    return pool, np.sort(rows)


def _whole(
    spec: str, images: str | None, read_as: str | None, trust_paths: bool
) -> tuple[Pool, np.ndarray]:
    """A pool and its readable rows. Raises PoolError."""
    import numpy as np

    from thresher.cli.guard import note
    from thresher.console.formatting import pluralize
    from thresher.console.progress import ReadProgress
    from thresher.errors import ConfigError, PoolError
    from thresher.pools import open_pool
    from thresher.selection.config import default_store
    from thresher.storage.opening import pool_cache

    place = Path(spec)
    named = (
        re.fullmatch(r"[\w./ -]+", spec) and "." not in place.name and place.parent.exists()
    )  # else an address, a pattern
    if named and not place.exists():
        raise ConfigError(
            f"{spec} is neither a finished selection (a folder with a run.yaml, which `select` "
            "wrote) nor a pool: nothing is there."
        )
    if place.is_dir():
        if (place / "selection.parquet").is_file():
            raise PoolError(
                f"{spec} is not a finished selection: it holds no run.yaml. Run its select again."
            )
        if inside := sorted(path.parent.name for path in place.glob("*/selection.parquet")):
            raise PoolError(
                f"{spec} is not a selection, but contains selections: {', '.join(inside[:5])}. "
                "Give one of them."
            )
    reading = ReadProgress(spec)
    cache = pool_cache(default_store())
    pool = open_pool(spec, images, cache, reading, read_as, trust_paths, reading.images)
    for text in pool.notes:
        note(text)
    if bad := int(pool.unreadable.sum()):
        note(
            f"{pluralize(bad)} cannot be read and {'is' if bad == 1 else 'are'} left out; see "
            "`thresher doctor`."
        )
    return pool, np.flatnonzero(~pool.unreadable)
