"""`thresher store`: what is in the store, how much space it takes, and what can be deleted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import handle_errors, note
from thresher.cli.help_text import Command, Group, paragraphs

if TYPE_CHECKING:
    from thresher.storage.columns import Store
    from thresher.storage.inventory import StoredColumn

StoreOption = Annotated[str | None, o.option("store")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind", metavar="KIND", help="Only signals of this kind. Repeatable.", show_default=False
    ),
]

app = typer.Typer(
    cls=Group,
    help="Show, clean up and copy what scores are stored in.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def ls(store: StoreOption = None, kind: Kinds = None, as_json: AsJson = False) -> None:
    """List the stored columns: signal, model, rows, size, time of the last write."""
    from datetime import datetime

    from thresher.console.formatting import format_bytes, pluralize
    from thresher.console.printing import stdout, table

    kept = _existing(store)
    found = _columns(kept, kind)
    if as_json:
        typer.echo(json.dumps([asdict(c) for c in found], indent=2, ensure_ascii=False))
        return
    out = table("column", "signal", "model", "rows", "size", "written")
    for position in (1, 2):
        out.columns[position].justify = "left"
    for c in found:
        signal = f"{c.kind} {c.version}" if c.kind else "unknown"
        written = f"{datetime.fromtimestamp(c.written):%Y-%m-%d %H:%M}"
        size = format_bytes(c.size)
        out.add_row(c.fingerprint[:8], signal, c.model or "–", f"{c.rows:,}", size, written)
    if found:
        stdout().print(out)
    total = format_bytes(sum(c.size for c in found))
    typer.echo(f"{pluralize(len(found), 'column')}, {total}, in {kept.address}")


def du(store: StoreOption = None, as_json: AsJson = False) -> None:
    """Show what the parts of the store take on disk."""
    from thresher.console.formatting import format_bytes
    from thresher.console.printing import stdout, table
    from thresher.storage import contents

    kept = _existing(store)
    sizes = contents.sizes(kept)
    if as_json:
        typer.echo(json.dumps(sizes, indent=2))
        return
    meaning = {
        "columns": "scores",
        "models": "trained models, and hashes of model files",
        "pools": "caches of parsed pools; made again when they are missing",
        "other": "claims of running processes, and files of yours",
        "mirror": f"this machine's copy, {kept.root}: scores, models, and caches of parsed pools",
    }
    out = table("part", "size", "what it holds")
    out.columns[2].justify = "left"
    for name, size in sizes.items():
        out.add_row(name, format_bytes(size), meaning[name])
    total = sum(size for name, size in sizes.items() if name != "mirror")
    out.add_row("[bold]total[/]", f"[bold]{format_bytes(total)}[/]", kept.address)
    stdout().print(out)


def gc(
    store: StoreOption = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=0,
            help="Delete also columns, unfinished trainings, pool caches and estimates of plan "
            "that were not written to for so many days.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be deleted.")
    ] = False,
) -> None:
    """Delete what nothing uses: leftovers of killed processes, damaged parts, columns of earlier
    versions."""
    from rich.markup import escape

    from thresher.console.formatting import format_bytes, pluralize
    from thresher.console.printing import stdout, table
    from thresher.signals.versions import versions
    from thresher.storage import contents

    kept = _existing(store)
    found = contents.leftovers(kept, versions(), older_than=older_than)
    if not found:
        typer.echo(f"Nothing to delete in {kept.address}.")
        return
    out = table("path", "size", "why")
    out.columns[0].justify = out.columns[2].justify = "left"
    deleted = freed = 0
    for item in found:
        if not dry_run:
            try:
                contents.delete(kept, item)
            except OSError as e:
                note(f"{item.path} could not be deleted: {e.strerror or e}.")
                continue
        deleted, freed = deleted + 1, freed + item.size
        name = escape(str(item.path.relative_to(kept.root)))
        out.add_row(name, format_bytes(item.size), item.reason)
    stdout().print(out)
    what = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{pluralize(deleted, 'item')} {what}, {format_bytes(freed)}, in {kept.address}")
    if deleted < len(found):
        raise typer.Exit(1)


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The tar file to write.")],
    store: StoreOption = None,
    kind: Kinds = None,
) -> None:
    """Write stored columns to one file, for another machine."""
    from thresher.console.formatting import format_bytes, pluralize
    from thresher.errors import ConfigError
    from thresher.storage.transfer import export_columns
    from thresher.storage.writable import check_file

    kept = _existing(store)
    found = _columns(kept, kind)
    if not found:
        raise ConfigError(
            " holds no columns that could be written.", option="store", value=kept.address
        )
    target = check_file(file, "FILE", suffixes=(".tar",))
    done = export_columns(kept, target, [c.fingerprint for c in found])
    what = f"{pluralize(done.columns, 'column')} in {pluralize(done.parts, 'part')}"
    typer.echo(f"Written: {target} ({what}, {format_bytes(done.size)})")


def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file that `thresher store export` wrote.")
    ],
    store: StoreOption = None,
) -> None:
    """Add the columns of an exported file to the store."""
    from thresher.console.formatting import format_bytes, pluralize
    from thresher.errors import ConfigError
    from thresher.selection.config import default_store
    from thresher.storage.opening import open_store
    from thresher.storage.transfer import import_columns

    if not Path(file).is_file():
        raise ConfigError(
            f"FILE {file} is not a file. Give one that `thresher store export` wrote."
        )
    kept = open_store(default_store() if store is None else store)
    kept.check()
    done = import_columns(Path(file), kept)
    known = f"; {pluralize(done.known, 'part')} were there already" if done.known else ""
    what = f"{pluralize(done.parts, 'part')} of {pluralize(done.columns, 'column')}"
    typer.echo(f"Added to {kept.address}: {what}, {format_bytes(done.size)}{known}")


def _existing(store: str | None) -> Store:
    """The store. Raises ConfigError if nothing has been stored there, StoreError."""
    from thresher.errors import ConfigError
    from thresher.selection.config import default_store
    from thresher.storage.opening import open_store

    kept = open_store(default_store() if store is None else store)
    kept.check(writes=False)
    if not kept.exists():
        raise ConfigError(
            " does not exist: nothing has been stored there yet.",
            option="store",
            value=kept.address,
        )
    return kept


def _columns(kept: Store, kinds: list[str] | None) -> list[StoredColumn]:
    """The columns of these kinds (None: all). Raises ConfigError for a kind that is not stored."""
    from thresher.errors import ConfigError, did_you_mean
    from thresher.storage import contents

    found = contents.columns(kept)
    stored = sorted({c.kind for c in found if c.kind})
    for kind in kinds or ():
        if kind not in stored:
            known = f" Stored: {', '.join(stored)}." if stored else " Nothing is stored."
            raise ConfigError(
                f": no such column.{did_you_mean(kind, stored)}{known}", option="kind", value=kind
            )
    return [c for c in found if not kinds or c.kind in kinds]


for function, name in ((ls, "ls"), (du, "du"), (gc, "gc"), (export, "export"), (import_, "import")):
    app.command(name, cls=Command, help=paragraphs(function.__doc__))(handle_errors(function))
