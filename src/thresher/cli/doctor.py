"""`thresher doctor`: what is wrong with a pool, with examples, and what a run would do about each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o

if TYPE_CHECKING:
    from thresher.doctor import Diagnosis

COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}


def doctor(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="A LLaVA JSON or JSONL file.", show_default=False)],
    images: o.Images = None,
    store: o.StorePath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Look for what is wrong with a pool: images, conversations, duplicates. Exit 1 if a run would lose rows."""
    from thresher.cli.prepare import open_the_pool
    from thresher.config import default_store
    from thresher.doctor import examine
    from thresher.progress import for_stderr
    from thresher.store import Store

    opened = open_the_pool(pool, images, Store(store or default_store()))
    found = examine(opened, progress=for_stderr())
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        show(found)
    if found.fails:
        raise typer.Exit(1)


def show(found: Diagnosis) -> None:
    """A table of findings: errors first, each with what a run does about it and up to three examples."""
    from rich.markup import escape

    from thresher.summary import say, share, stdout, table

    console = stdout()
    say(console, f"[bold]{escape(found.path)}[/]: {found.rows:,} rows, {found.images:,} different images.")
    if found.findings:
        out = table("finding", "rows", "images", "")
        out.columns[-1].header = "what it is, what a run does about it, examples"
        out.columns[-1].justify = "left"
        for f in found.findings:
            lines = [f"{escape(f.what)}: [italic]{escape(f.action)}[/]"]
            for e in f.examples:
                detail = f": {e.detail}" if e.detail else ""
                lines.append(f"[dim]row {e.row} (id {escape(e.id or 'none')}){escape(detail)}[/]")
            kind = f"[{COLOURS[f.severity]}]{f.severity}[/] {f.kind}"
            out.add_row(kind, f"{f.rows:,}", f"{f.images:,}" if f.images else "", "\n".join(lines))
        console.print(out)
    if found.fails:
        say(
            console,
            f"[bold red]A run with a model would lose {found.lost:,} rows ({share(found.lost, found.rows)}).[/] "
            "Up to 5% are left out and listed; more need --on-missing exclude.",
        )
    else:
        say(console, "[bold green]A run would lose no row.[/]")
