"""`thresher demo`: all steps on the built-in pool and model, offline, in about a minute or two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thresher.cli.guard import Interrupted


def demo(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")
    ] = "out/demo",
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=200, max=200_000, help="Size of the pool.")
    ] = 6000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Random seed.")] = 0,
) -> None:
    """Run everything on a built-in pool and model: offline, on the CPU, in two minutes at most."""
    from thresher.console.printing import stdout
    from thresher.console.progress import stderr_progress
    from thresher.demo.command import demo as job

    progress = stderr_progress()
    try:
        job(stdout(), progress, out=Path(out), rows=rows, seed=seed)
    except KeyboardInterrupt:
        raise Interrupted(progress.rows) from None
