"""`thresher methods`: the methods, what each needs, and its settings with their defaults."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this method.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """List the methods: what each does, what it needs from a model, and its settings."""
    from rich.markup import escape

    from thresher.methods import describe, method_class

    if name is not None:
        method_class(name)  # refuses an unknown name and suggests the closest
    infos = [info for info in describe() if name in (None, info.name)]
    if as_json:
        rows = [{**asdict(i), "needs": [n.value for n in i.needs]} for i in infos]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from thresher.console.printing import stdout, table

    console = stdout()
    names = table("method", "what it does", "needs from a model", numbers=False)
    for info in infos:
        paper = f"\n[dim]{escape(info.paper)}[/]" if info.paper else ""
        needs = ", ".join(n.value for n in info.needs) or "nothing"
        names.add_row(f"[bold cyan]{info.name}[/]", escape(info.summary) + paper, needs)
    console.print(names)
    settings = table("method", "--set", "meaning, allowed values", numbers=False)
    for info in infos:
        for i, s in enumerate(info.settings):
            name = "" if i else f"[bold cyan]{info.name}[/]"
            settings.add_row(
                name, f"{s.name}={escape(s.default)}", f"{escape(s.help)}\n[dim]{escape(s.type)}[/]"
            )
        settings.add_section()
    if settings.row_count:
        console.print(settings)
