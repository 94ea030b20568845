"""`thresher diff`: what two selections have in common, and what only one of them keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thresher.report.diff import Difference

EXAMPLES = 3
MOST_SOURCES = 12
WORDS = 90  # characters of a question and of an answer


def diff(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A folder written by select.", show_default=False)
    ],
    b: Annotated[
        str,
        typer.Argument(metavar="B", help="Another folder written by select.", show_default=False),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.html",
            help="Also write a page with plots and rows.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare two selections: overlap and differences, by source and score, with examples."""
    from pathlib import Path

    from thresher.console.printing import say, stdout
    from thresher.errors import ConfigError
    from thresher.report import diff_report
    from thresher.report.diff import difference
    from thresher.report.folder import load

    if out is not None and (Path(out).is_dir() or not Path(out).parent.is_dir()):
        raise ConfigError(
            ": give a file such as diff.html in a folder that exists.", option="out", value=out
        )
    first = load(a)
    second = load(b, first.pool if _same_place(a, b) else None)
    found = difference(first, second)
    if out is not None:
        diff_report.write(found, Path(out))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    show(found)
    if out is not None:
        say(stdout(), f"Written to {out}", markup=False)


def _same_place(a: str, b: str) -> bool:
    """Whether both were selected from the same pool file, which is then opened only once."""
    from thresher.selection import folder as output

    return bool(output.read(a)["pool"] == output.read(b)["pool"])


def show(d: Difference) -> None:
    """Print the overlap, a table by source, a table by score, and a few rows of each part."""
    from rich.markup import escape

    from thresher.console.formatting import format_percent, tick_text
    from thresher.console.printing import NARROW, plain, say, stdout, table
    from thresher.report.diff import label

    console = stdout()
    a, b = label(d.a, d.b), label(d.b, d.a)
    n_a, n_b, both = len(d.only_a) + len(d.both), len(d.only_b) + len(d.both), len(d.both)
    say(console, f"A: {escape(a)}, {n_a:,} rows ({escape(str(d.a.folder))})")
    say(console, f"B: {escape(b)}, {n_b:,} rows ({escape(str(d.b.folder))})")
    line = (
        f"[bold]{both:,} rows in both[/]: {format_percent(both, n_a)} of A, "
        f"{format_percent(both, n_b)} of B."
    )
    if d.by_chance is not None:
        line += f" Two random samples of these sizes would share about {d.by_chance:,.0f}."
    say(console, line)
    narrow = console.width < NARROW
    grid = table("source", "only A", "both", "only B")
    for c in d.sources[:MOST_SOURCES]:
        grid.add_row(escape(plain(c.name)), f"{c.only_a:,}", f"{c.both:,}", f"{c.only_b:,}")
    if len(d.sources) > MOST_SOURCES:
        rest = d.sources[MOST_SOURCES:]
        sums = [sum(getattr(c, part) for c in rest) for part in ("only_a", "both", "only_b")]
        grid.add_row(f"{len(rest)} smaller", *(f"{n:,}" for n in sums))
    console.print(grid)
    if d.scores:
        medians = table("median of", "only A", "both", "only B")
        for s in d.scores:
            what = (
                f"{s.brief if narrow else s.title}{', ' + s.unit if s.unit and not narrow else ''} "
                f"({s.of})"
            )
            medians.add_row(
                escape(what),
                *(
                    "-" if v is None else tick_text(float(f"{v:.3g}"))
                    for v in (s.only_a, s.both, s.only_b)
                ),
            )
        for column in medians.columns[1:]:
            column.no_wrap = True
        console.print(medians)
    for title, made, rows in (("Only A", d.a, d.only_a), ("Only B", d.b, d.only_b)):
        if not len(rows):
            continue
        say(console, f"[bold]{title}[/], best rank first:")
        for row, sample in zip(
            rows[:EXAMPLES].tolist(), made.pool.samples(rows[:EXAMPLES]), strict=True
        ):
            texts = [_short(t.text) for t in sample.turns if t.role != "system"][:2]
            say(console, f"  row {row:,}: {' → '.join(texts)}", markup=False)


def _short(text: str) -> str:
    """The first words of a text, on one line and safe for a terminal."""
    plain = "".join(
        c if c.isprintable() else " " for c in text.replace("<image>", " ")[: 4 * WORDS]
    )
    plain = " ".join(plain.split())
    return plain if len(plain) <= WORDS else plain[: WORDS - 1] + "…"
