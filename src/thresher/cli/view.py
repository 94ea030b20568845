"""`thresher view`: a local page to browse the pool of a selection and to select again without a
model."""

from __future__ import annotations

from typing import Annotated

import typer


def view(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A folder written by select.", show_default=False)
    ],
    browser: Annotated[
        bool,
        typer.Option(
            "--open/--no-open", help="Open the page in a browser, where there is a screen."
        ),
    ] = True,
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="0: any free port.", min=0, max=65535)
    ] = 0,
) -> None:
    """Browse a pool, change the budget, pin and ban rows, export: on a local page.

    Uses stored scores; no model runs. Press Ctrl-C to stop.
    """
    from thresher.cli.guard import note
    from thresher.viewer.serve import view as serve

    def say(address: str) -> None:
        typer.echo(address)
        note(
            "anyone who has this address can see the pool. Press Ctrl-C to stop; pins and bans "
            "are kept in DIR/view."
        )

    note(f"opening {folder}: loading columns takes some seconds for a large pool.")
    serve(folder, port, browser, say)
