"""`thresher suspects`: the rows of a pool whose answers are likely wrong."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli import options as o
from thresher.cli.guard import Interrupted, note
from thresher.errors import CapReached

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.doctor.suspects import Suspect, SuspectOptions, Suspects
    from thresher.engine import RunContext
    from thresher.pools import Pool
    from thresher.request import RunRequest

LONGEST_TEXT = 60  # characters of a question or an answer in the table


@o.takes_request("suspects")
def suspects(
    context: typer.Context,
    pool: Annotated[
        str,
        typer.Argument(metavar="POOL", help="The pool, as select takes it.", show_default=False),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write the list to a .jsonl, .csv, .parquet or .html file.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", metavar="X", help="List rows of at least this suspicion, 0 to 1."
        ),
    ] = 0.5,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="List at most so many rows.", show_default=False),
    ] = None,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="Rows listed on the terminal.")
    ] = 20,
    answers: Annotated[
        bool,
        typer.Option("--answers", help="Ask the model for its own answer to each listed row."),
    ] = False,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Longest answer of the model.")
    ] = 32,
    image_gain: Annotated[
        bool,
        typer.Option(
            "--image-gain/--no-image-gain",
            help="Check by a second pass without images and videos whether these speak against the "
            "rows.",
        ),
    ] = True,
    leaves: Annotated[
        int | None,
        typer.Option(
            "--leaves",
            metavar="N",
            help="Number of skills (default: one for every 30 rows).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """List the rows whose answers are likely wrong, by skill, the likeliest first.

    A row is suspected if a model finds its answer surprising for its skill and the image or video
    does not support it. Scores are stored, and shared with select --method winnow.
    """
    from thresher.console.progress import stderr_progress
    from thresher.doctor.suspect_files import SUFFIXES, to_json
    from thresher.doctor.suspects import SuspectOptions, find_suspects
    from thresher.doctor.tracked import track_suspects
    from thresher.engine import RunContext
    from thresher.errors import ConfigError
    from thresher.methods.needs import no_model
    from thresher.selection.opening import open_the_pool, store_of
    from thresher.selection.request_models import server_options, the_embedder, the_model
    from thresher.signals.suspicion import suspicion_signals
    from thresher.storage.writable import check_file
    from thresher.tracking import require_tracker, tracked
    from thresher.types import EMBEDDER

    chosen = SuspectOptions(threshold, limit, answers, image_gain, leaves, max_new_tokens)
    request = o.request_of(context)
    if request.model is None:
        raise no_model("thresher suspects")
    require_tracker(request.track)
    path = check_file(out, suffixes=(*SUFFIXES, ".html")) if out is not None else None
    server = server_options(request)
    kept = store_of(request)
    kept.check()
    handle = the_model(request, kept, server)
    assert handle is not None  # the model was checked above
    roles = the_embedder(request, kept, server)
    other = roles[EMBEDDER].identity if roles else None
    suspicion_signals(handle.identity, embedder=other)  # refuses models before the pool is read
    opened = open_the_pool(
        *(pool, request.images, kept, note, request.format, request.trust_paths),
        video_frames=request.video_frames,
    )
    if path is not None and path.exists():
        sources = [f.uri for f in opened.file_specs if os.path.exists(f.uri)]
        if any(path.samefile(source) for source in sources):
            raise ConfigError(" is the pool itself. Give another file.", option="out", value=out)
    progress = stderr_progress()
    asked = o.asked_of(request, "suspects") | {"pool": pool} | asdict(chosen)
    with tracked(request.track, path.stem if path else "suspects", asked, note) as tracking:
        run = RunContext(kept, handle, roles, progress=tracking.progress(progress))
        try:
            found = find_suspects(opened, request, run, chosen)
        except KeyboardInterrupt:
            raise Interrupted(progress.rows) from None
        except CapReached as stop:
            left = _left(opened, request, run, chosen)
            raise CapReached(f"{left} {stop.message}") from None
        if path is not None:
            _write(found, opened, path)
        track_suspects(found, tracking)
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2, ensure_ascii=False))
    else:
        _print_suspects(found, show)
        for remark in found.notes:
            note(remark.text)
        if path is not None:
            typer.echo(f"Written: {path}")
    if server.account.requests:
        note(f"{server.bill()}.")


def _left(pool: Pool, request: RunRequest, run: RunContext, chosen: SuspectOptions) -> str:
    """How many rows are still to be scored, as text.

    Arguments:
        pool: that is searched.
        request: of the user.
        run: the models and the store.
        chosen: options of the list.
    """
    from thresher.doctor.suspects import signals_for
    from thresher.engine import create_engine
    from thresher.selection.plan import left_to_score
    from thresher.selection.signal_plan import plan_signals

    signals = signals_for(run, chosen)
    unwatched = replace(run, progress=None)
    engine = create_engine(pool, signals, replace(request, on_missing="exclude"), unwatched)
    usable = int(engine.eligible.mask.sum())
    parts, _, _ = plan_signals(engine, signals, "text")
    if any(part.to_score for part in parts):
        return left_to_score(parts, usable)
    return "All rows are scored; answers of the model to listed rows are missing."


def _write(found: Suspects, pool: Pool, path: Path) -> None:
    """Write the list in the format of the file's name.

    Arguments:
        found: the suspects.
        pool: that they are rows of.
        path: of the file.

    Raises StoreError (disk full, no permission).
    """
    from thresher.doctor.suspect_files import write_suspects
    from thresher.errors import StoreError
    from thresher.report.suspects_page import write_page

    try:
        if path.suffix == ".html":
            write_page(found, pool, path)
        else:
            write_suspects(found, path)
    except OSError as e:
        raise StoreError(
            f" cannot be written: {e.strerror or e}.", option="out", value=str(path)
        ) from e


def _print_suspects(found: Suspects, show: int) -> None:
    """Print how many there are, and a table of the first ones, grouped by skill.

    Arguments:
        found: the suspects.
        show: number of rows of the table.
    """
    from rich.markup import escape

    from thresher.console.formatting import format_percent, pluralize
    from thresher.console.printing import plain, say, stdout, table

    console = stdout()
    say(
        console,
        f"[bold]{pluralize(found.found)} of {found.judged:,} suspected[/] "
        f"({format_percent(found.found, found.judged)}) at {found.options.threshold:g} or above, "
        f"in {pluralize(found.skills, 'skill')} found by {escape(found.model)}; by their "
        f"suspicions about {found.expected_wrong:,.0f} of them are wrong.",
    )
    listed = list(islice(found.rows, show))
    if not listed:
        return
    asked = found.options.answers
    names = ["question", "given answer", *(["model's answer"] if asked else [])]
    out = table("row", "suspicion", "loss", "rank", "visual gain", *names)
    for column in out.columns[5:]:
        column.justify = "left"
    by_skill: dict[int, list[Suspect]] = {}
    for row in listed:
        by_skill.setdefault(row.skill, []).append(row)
    for skill, rows in by_skill.items():
        words = plain(rows[0].skill_words) or "no words"
        out.add_row(f"[bold]skill {skill}[/]", *[""] * 4, f"[bold]{escape(words)}[/]")
        for r in rows:
            texts = [r.question, r.given, *([r.answer or "–"] if asked else [])]
            out.add_row(
                f"{r.row:,}",
                f"{r.suspicion:.2f}",
                f"{r.nll:.2f}",
                f"{r.rank}/{r.skill_rows}",
                "–" if r.gain is None else f"{r.gain:+.2f}",
                *(escape(_short(plain(text))) for text in texts),
            )
    console.print(out)
    if len(found.rows) > len(listed):
        rest = len(found.rows) - len(listed)
        say(console, f"… and {rest:,} more (--show N, or all with --out FILE).", markup=False)


def _short(text: str) -> str:
    """One line of at most `LONGEST_TEXT` characters."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
