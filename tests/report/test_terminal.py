"""Printed summary of a selection: narrow terminals, NO_COLOR, pipes, and terminal escapes in
sources."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.report.image_pools import chosen, picture_pool, record
from thresher.console import printing, progress
from thresher.pools import Pool
from thresher.selection import folder as output
from thresher.selection import summary


def hostile_pool(folder: Path) -> Pool:
    records = [record(i) for i in range(60)]
    for i, source in enumerate(
        ("red\x1b[31m", "[bold]loud[/bold]", "left\u202eright", "a_source_with_a_long_name_" * 3)
    ):
        records[i]["data_source"] = source
    return picture_pool(folder / "pool", records)


class Terminal(io.StringIO):
    """A stdout that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, method: str = "clipper", **env: str
) -> str:
    """What `select` prints to a terminal of that width after a selection of a pool with hostile
    sources."""
    kept = chosen(hostile_pool(tmp_path), method, tmp_path / "out")
    out = Path("out")
    monkeypatch.chdir(tmp_path)
    output.write(kept.outcome, kept.pool, kept.request, out)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(width), **env}.items():
        monkeypatch.setenv(name, value)
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    summary.show(kept.outcome, kept.pool, kept.request, out)
    monkeypatch.undo()
    return screen.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_summary_is_short_and_wraps_between_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    text = re.sub(r"\x1b\[[\d;]*m", "", printed(tmp_path, monkeypatch, width))
    whole = " ".join(text.split())
    assert re.search(
        r"Kept 18 of 60 rows \(30\.0%\) by clipper, seed 0\. \d+\.\d% of all answer "
        r"words\.",
        whole,
    )
    assert re.search(r"loss: 60 needed, 60 scored, 0 reused \([\d.]+ s\); one_shot_", whole)
    assert re.search(r"By source, pool → kept: \w+ \d+\.\d% → \d+\.\d%, ", whole)
    assert re.search(
        r"Median log-perplexity \d\.\d+ in the pool, \d\.\d+ kept; after a "
        r"demonstration ",
        whole,
    )
    assert "evidence.parquet" in whole, "no file name is broken"
    assert all(len(line) <= width or " " not in line for line in text.splitlines())
    assert len(text.partition("Note:")[0].splitlines()) <= {40: 24, 60: 15, 80: 12, 120: 10}[width]


def test_a_pipe_gets_six_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = chosen(hostile_pool(tmp_path), "clipper", tmp_path / "out")
    output.write(kept.outcome, kept.pool, kept.request, tmp_path / "out")
    monkeypatch.setenv("FORCE_COLOR", "")
    summary.show(kept.outcome, kept.pool, kept.request, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:6]] == [
        "Kept",
        "loss:",
        "By",
        "Median",
        "Selecting:",
        "Written",
    ]
    assert all(line.startswith("Note: ") for line in lines[6:]) and not any(
        "\x1b" in line for line in lines
    )


def test_summary_without_scores_and_sources_is_shorter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{**record(4 * i + 2), "data_source": "one"} for i in range(20)]
    kept = chosen(picture_pool(tmp_path / "pool", records), "random", tmp_path / "out")
    output.write(kept.outcome, kept.pool, kept.request, tmp_path / "out")
    summary.show(kept.outcome, kept.pool, kept.request, tmp_path / "out")
    first, saving, last = capsys.readouterr().out.splitlines()
    assert first.endswith("of all answer words.") and last.startswith("Written to ")
    assert saving.startswith("Selecting: no model needed; saved per epoch: 70% of the rows")


def test_source_cannot_control_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources of equal size are sorted by name, so the hostile ones are made the largest."""
    monkeypatch.setattr(summary, "SAID_SOURCES", 20)
    text = printed(tmp_path, monkeypatch, 120)
    assert "\x1b[31m" not in text and "\u202e" not in text
    assert "red�[31m" in text and "[bold]loud[/bold]" in text
    assert (
        "a_source_with_a_long_name_" * 3 not in text
        and "a_source_with_a_long_name_a_source_with…" in text.replace("\n", "")
    )


@pytest.mark.parametrize(
    ("env", "escapes"), [({"NO_COLOR": "1"}, "bold"), ({"TERM": "dumb"}, "none")]
)
def test_no_colour_if_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], escapes: str
) -> None:
    found = set(re.findall(r"\x1b\[[\d;]*m", printed(tmp_path, monkeypatch, 80, **env)))
    assert found <= ({"\x1b[1m", "\x1b[0m"} if escapes == "bold" else set())


@pytest.mark.parametrize(("term", "bar"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_bars_only_on_capable_terminals(
    monkeypatch: pytest.MonkeyPatch, term: str, bar: bool
) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", term)
    assert isinstance(progress.stderr_progress(), progress.BarProgress) == bar
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(progress.stderr_progress(), progress.LineProgress)


@pytest.mark.parametrize("width", [30, 45, 60, 80, 120])
@pytest.mark.parametrize("label", ["loss", "score_object_spatial_understanding and 22 more"])
def test_numbers_of_a_bar_are_not_truncated(width: int, label: str) -> None:
    stream = io.StringIO()
    bar = progress.BarProgress(
        Console(file=stream, force_terminal=True, width=width, color_system=None)
    )
    bar.start(label, 1_000_000, 0)
    bar.advance(1_000_000)
    bar.finish()
    last = (
        re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue())
        .replace("\r", "\n")
        .strip()
        .splitlines()[-1]
    )
    assert len(last.rstrip()) <= width and "…" not in last.replace(
        "…", "", 1 if label != "loss" else 0
    )
    assert "1,000,000/1,000,000" in last or "100%" in last
    assert re.search(r" \d:\d\d:\d\d$", last.rstrip())
    assert last.startswith(label[:4])


def test_result_line_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say(printing.stdout(), "Note: image \x1b]0;title\x07 is broken\nsecond", markup=False)
    assert capsys.readouterr().out == "Note: image �]0;title� is broken\nsecond\n"


def test_pipe_gets_no_escapes_and_unwrapped_lines(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say(printing.stdout(), "[bold]Kept[/] " + "word " * 100)
    text = capsys.readouterr().out
    assert "\x1b" not in text and text.count("\n") == 1


def test_no_color_disables_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setenv("NO_COLOR", "1")
    Console(file=out, force_terminal=True, highlight=False).print("[bold green]beats random[/]")
    assert not re.search(r"\x1b\[[\d;]*3\d", out.getvalue())
