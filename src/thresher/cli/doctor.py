"""`thresher doctor`: what is wrong with a pool, with examples, and what a run would do about
each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import note
from thresher.errors import PoolError
from thresher.request.spelling import as_flag

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.doctor import Diagnosis, RepairResult
    from thresher.storage.columns import Store

COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}


def doctor(
    pool: Annotated[
        str,
        typer.Argument(metavar="POOL", help="The pool, as select takes it.", show_default=False),
    ],
    images: Annotated[str | None, o.option("images")] = None,
    evals: Annotated[
        list[str] | None,
        typer.Option(
            "--eval",
            metavar="FILE",
            help="An evaluation set whose questions must not appear in the pool. Repeatable.",
            show_default=False,
        ),
    ] = None,
    eval_images: Annotated[
        str | None,
        typer.Option(
            "--eval-images",
            metavar="DIR",
            help="Folder that its image paths start from (default: its own folder, else --images).",
            show_default=False,
        ),
    ] = None,
    fix: Annotated[
        str | None,
        typer.Option(
            "--fix",
            metavar="FILE",
            help="Write a repaired copy, and a log of changes.",
            show_default=False,
        ),
    ] = None,
    near: Annotated[
        bool, typer.Option("--near/--no-near", help="Look for near duplicates as well.")
    ] = True,
    context_tokens: Annotated[
        int | None,
        typer.Option(
            "--context",
            metavar="N",
            min=1,
            help="Report rows with more tokens than this (default: the model's, else 8192), "
            "estimated from words, images and scored videos.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Count the tokens of images and videos with this model's processor (default: 576 "
            "an image, 196 a frame of a video). A folder, a hub id, or demo.",
            show_default=False,
        ),
    ] = None,
    image_pixels: Annotated[str | None, o.option("image_pixels")] = None,
    video_frames: Annotated[
        int | None,
        o.option(
            "video_frames",
            help="Read N frames of each video and report videos that cannot be read (default: "
            "rows with videos are reported as not scored).",
        ),
    ] = None,
    trust_remote_code: Annotated[bool | None, o.option("trust_remote_code")] = None,
    format: Annotated[str | None, o.option("format")] = None,
    trust_paths: Annotated[bool | None, o.option("trust_paths")] = None,
    store: Annotated[str | None, o.option("store")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Find problems in a pool: images, conversations, duplicates, leakage. Exit 1 if a run would
    lose rows."""
    from thresher.console.progress import stderr_progress
    from thresher.doctor import CONTEXT, find_problems, repair
    from thresher.doctor.repair import check_target
    from thresher.mixture.tokens import media_tokens
    from thresher.selection.config import default_store
    from thresher.selection.opening import TEST, open_the_pool
    from thresher.storage.opening import open_store

    kept = open_store(default_store() if store is None else store)
    handle = _model(model, image_pixels, bool(trust_remote_code), kept)
    try:
        opened = open_the_pool(
            *(pool, images, kept, note, format, bool(trust_paths)), video_frames=video_frames
        )
    except PoolError as error:
        if as_json:  # readers of JSON get JSON, also for a file that is not a pool
            typer.echo(
                json.dumps(_unopened(pool, error.spelled(as_flag)), indent=2, ensure_ascii=False)
            )
            raise typer.Exit(1) from None
        raise
    if fix:
        check_target(opened, Path(fix))  # before the images are read, which takes minutes
    others = []
    for name in evals or []:
        other = open_the_pool(
            name, eval_images, kept, note, trust_paths=bool(trust_paths), splits=TEST
        )
        if eval_images is None and images is not None and other.facts["missing_images"].any():
            # pool and evaluation set often share one image folder
            in_images = open_the_pool(
                name, images, kept, note, trust_paths=bool(trust_paths), splits=TEST
            )
            if in_images.facts["missing_images"].sum() < other.facts["missing_images"].sum():
                other = in_images
        others.append((name, other))
    media = media_tokens(opened, handle)
    if handle is not None and media.how:
        note(f"tokens of images and videos{media.how}.")
    found = find_problems(
        opened,
        progress=stderr_progress(),
        near=near,
        evals=others,
        context=context_tokens or (handle.context if handle else None) or CONTEXT,
        media=media,
    )
    diagnosis = found.diagnosis()
    repaired = repair(opened, found, Path(fix)) if fix else None
    if as_json:
        report = diagnosis.to_json()
        report["notes"] = [*opened.notes, *report["notes"]]
        if repaired is not None:
            report["repaired"] = {
                k: str(v) if isinstance(v, Path) else v for k, v in vars(repaired).items()
            }
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        show(diagnosis)
        if repaired is not None:
            show_repaired(repaired)
    if diagnosis.fails:
        raise typer.Exit(1)


def _model(
    name: str | None, image_pixels: str | None, trust_remote_code: bool, store: Store
) -> ModelHandle | None:
    """The model whose processor counts the tokens of images and videos. Raises ConfigError,
    ModelError."""
    from thresher.errors import ConfigError, opt
    from thresher.request import RunRequest
    from thresher.selection.config import check_request
    from thresher.selection.request_models import the_model

    if name is None:
        if image_pixels is not None:
            raise ConfigError(
                f" bounds the images of a model. Name it: {opt('model', 'MODEL')}.",
                option="image_pixels",
                value=image_pixels,
            )
        return None
    request = RunRequest(model=name, image_pixels=image_pixels, trust_remote_code=trust_remote_code)
    check_request(request)
    found = the_model(request, store)
    assert found is not None
    if found.identity.served:
        raise ConfigError(
            " is behind a server, which has the processor. Give a folder or a hub id.",
            option="model",
            value=name,
        )
    return found


def _unopened(path: str, error: str) -> dict[str, object]:
    """The diagnosis of a pool that cannot be opened."""
    finding = {
        "kind": "unreadable-pool",
        "severity": "error",
        "rows": 0,
        "images": 0,
        "what": "the pool cannot be opened",
        "action": "stops with this message",
        "examples": [{"row": 0, "id": "", "detail": error}],
    }
    return {
        "path": path,
        "rows": 0,
        "images": 0,
        "findings": [finding],
        "lost": 0,
        "notes": [],
        "fails": True,
    }


def show(found: Diagnosis) -> None:
    """A table of findings: errors first, each with what a run does about it and up to three
    examples."""
    from rich.markup import escape

    from thresher.console.formatting import format_percent, pluralize
    from thresher.console.printing import plain, say, stdout, table

    console = stdout()
    say(
        console,
        f"[bold]{escape(found.path)}[/]: {pluralize(found.rows)}, "
        f"{pluralize(found.images, 'different image')}.",
    )
    if found.findings:
        out = table("finding", "rows", "images", "")
        out.columns[-1].header = "what it is, what a run does about it, examples"
        out.columns[-1].justify = "left"
        for f in found.findings:
            lines = [f"{escape(f.what)}: [italic]{escape(f.action)}[/]"]
            for e in f.examples:
                detail = f": {e.detail}" if e.detail else ""
                lines.append(
                    f"[dim]row {e.row:,} (id "
                    f"{escape(plain(e.id) or 'none')}){escape(plain(detail))}[/]"
                )
            kind = f"[{COLOURS[f.severity]}]{f.severity}[/] {escape(plain(f.kind))}"
            out.add_row(kind, f"{f.rows:,}", f"{f.images:,}" if f.images else "", "\n".join(lines))
        console.print(out)
    for remark in found.notes:
        say(console, f"Note: {remark.spelled(as_flag)}", markup=False)
    if found.fails:
        say(
            console,
            f"[bold red]A run with a model would lose {pluralize(found.lost)} "
            f"({format_percent(found.lost, found.rows)}).[/] Up to 5% are left out and listed; "
            "more need --on-missing exclude.",
        )
    else:
        say(console, "[bold green]A run would lose no row.[/]")


def show_repaired(repaired: RepairResult) -> None:
    """Print what was written, in two lines."""
    from rich.markup import escape

    from thresher.console.formatting import pluralize
    from thresher.console.printing import say, stdout

    console = stdout()
    say(
        console,
        f"Repaired copy: [bold]{escape(str(repaired.path))}[/], {pluralize(repaired.rows)}, "
        f"{repaired.repaired:,} of them changed, {repaired.left_out:,} left out. Its image paths "
        "start from the pool's image folder (--images).",
    )
    say(console, f"Every change: {escape(str(repaired.log))}")
