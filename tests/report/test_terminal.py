"""What is printed after a selection: narrow terminals, NO_COLOR, pipes, and sources that try to drive the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.report.made import picture_pool, record
from thresher import summary
from thresher.pools import Pool


def hostile_pool(folder: Path) -> Pool:
    records = [record(i) for i in range(60)]
    for i, source in enumerate(
        ("red\x1b[31m", "[bold]loud[/bold]", "left\u202eright", "a_source_with_a_long_name_" * 3)
    ):
        records[i]["data_source"] = source
    return picture_pool(folder / "pool", records)


def printed(pool: Pool, width: int) -> str:
    out = io.StringIO()
    shown = summary.comparison(pool, np.arange(20), width)
    assert shown is not None
    Console(file=out, width=width, force_terminal=True, color_system=None).print(shown)
    return out.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 140])
def test_numbers_are_never_broken(tmp_path: Path, width: int) -> None:
    said = re.sub(r"\x1b\[\d*m", "", printed(hostile_pool(tmp_path), width))
    assert max(len(line) for line in said.splitlines()) <= width
    shares = re.findall(r"\d+\.\d+%", said)
    assert len(shares) >= 2 * 6 and "60.0%" not in said.replace("100.0%", "")
    assert "…" not in said
    assert ("kept of these" in said) == (width >= summary.NARROW)


def test_a_source_cannot_drive_the_terminal(tmp_path: Path) -> None:
    said = printed(hostile_pool(tmp_path), 140)
    assert "\x1b[31m" not in said and "\u202e" not in said
    assert "red�[31m" in said and "[bold]loud[/bold]" in said


def test_a_line_of_a_result_cannot_either(capsys: pytest.CaptureFixture[str]) -> None:
    summary.say(summary.stdout(), "Note: image \x1b]0;title\x07 is broken\nsecond", markup=False)
    assert capsys.readouterr().out == "Note: image �]0;title� is broken\nsecond\n"


def test_a_pipe_gets_no_escapes_and_long_lines_whole(capsys: pytest.CaptureFixture[str]) -> None:
    summary.say(summary.stdout(), "[bold]Kept[/] " + "word " * 100)
    said = capsys.readouterr().out
    assert "\x1b" not in said and said.count("\n") == 1


def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setenv("NO_COLOR", "1")
    Console(file=out, force_terminal=True, highlight=False).print("[bold green]beats random[/]")
    assert not re.search(r"\x1b\[[\d;]*3\d", out.getvalue())
