"""The benchmark beside other packages: its inputs, its verdicts, its page. No peer is needed."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.peers import copies, diverse, environments, losses, sampler, vectors
from benchmarks.peers.__main__ import COMPARISONS
from benchmarks.peers.comparison import Comparison, Tool
from benchmarks.peers.measure import Measured, measure
from benchmarks.peers.page import page, unexplained


def comparison(name: str) -> Comparison:
    found: Comparison = importlib.import_module(f"benchmarks.peers.{name}").COMPARISON
    return found


def made(name: str, folder: Path, rows: int) -> Comparison:
    """A comparison, with its inputs in `folder`/in and an empty `folder`/out."""
    found = comparison(name)
    for part in ("in", "out"):
        (folder / part).mkdir()
    found.make(folder / "in", rows)
    return found


def test_every_peer_can_be_installed() -> None:
    peers = [peer for name in COMPARISONS for peer in comparison(name).peers]
    assert {peer.environment for peer in peers} - {""} == set(environments.names())
    for name in COMPARISONS:
        tools = [tool.name for tool in (comparison(name).thresher, *comparison(name).peers)]
        assert len(set(tools)) == len(tools)


@pytest.mark.parametrize(
    ("name", "rows", "text"),
    [
        ("texts", 60, "3 of 3 copies left out, 0 other rows"),
        ("images", 30, "3 of 3 copies left out, 0 other rows"),
        ("broken", 200, "4 of 4 damaged files, 0 other files"),
        ("vectors", 400, "0 missed, 0 wrong"),
        ("reading", 50, "50 rows, answers of a sample the same"),
    ],
)
def test_thresher_does_the_job(name: str, rows: int, text: str, tmp_path: Path) -> None:
    job = made(name, tmp_path, rows)
    found = job.thresher.prepare(tmp_path / "in", tmp_path / "out")()
    verdict, good = job.judge(tmp_path / "in", found, found)
    assert text in verdict and good


@pytest.mark.slow
def test_losses_are_those_of_the_loop(tmp_path: Path) -> None:
    job = made("losses", tmp_path, 3)
    ours = losses.thresher(tmp_path / "in", tmp_path / "out")()
    for theirs in (losses.loop, losses.batches):
        assert job.judge(tmp_path / "in", ours, theirs(tmp_path / "in", tmp_path / "out")())[1]


def test_copies_left_out_are_counted_per_family(tmp_path: Path) -> None:
    planted = copies.Planted(8, [[1, 0], [2, 0], [4, 3]], [0, 1, 2, 3, 4])
    assert planted.found([0, 3, 5, 6, 7]) == (3, 3, 0)
    assert planted.found([2, 4, 5, 6, 7]) == (3, 3, 0)  # whichever stays
    assert planted.found([5, 6]) == (
        3,
        3,
        1,
    )  # a family that is gone counts no more than its copies
    planted.write(tmp_path)
    assert copies.judge_copies(tmp_path, [0, 3, 5, 6, 7], [0, 1, 3, 5, 6]) == (
        "2 of 3 copies left out, 1 other rows",
        False,
    )


def test_semantic_errors_are_found(tmp_path: Path) -> None:
    angle = np.array([0.0, 0.1, 1.5, 3.0])
    np.save(tmp_path / "vectors.npy", np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert vectors.errors(tmp_path, [0, 2, 3]) == (0, 0)
    assert vectors.errors(tmp_path, [0, 1, 2, 3]) == (1, 0)  # row 1 is like row 0
    assert vectors.errors(tmp_path, [0, 2]) == (0, 1)  # row 3 is like none


def test_a_subset_that_leaves_rows_far_away_is_worse(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.eye(3, dtype=np.float32)[[0, 1, 2, 2]])
    assert diverse.judge(tmp_path, [0, 1, 2], [3, 1, 0])[1]
    assert not diverse.judge(tmp_path, [0, 1, 2], [0, 1, 0])[1]
    assert diverse.quality(tmp_path, [0, 1]) == (0.0, 0.5)


def test_peers_are_measured_or_said_to_be_missing(tmp_path: Path) -> None:
    """Each in a process of its own; a failure is a line of the table, not the end."""
    job = replace(
        sampler.COMPARISON,
        peers=(
            *sampler.COMPARISON.peers,
            Tool("elsewhere", sampler.thresher, "elsewhere", "elsewhere"),
            Tool("unknown", sampler.thresher),
        ),
        few=100,
    )
    lines: list[str] = []
    ours, pandas, elsewhere, unknown = measure("sampler", job, 300, 1, tmp_path, lines.append)
    assert ours.text == pandas.text == "90 rows, the same in the same order"
    assert ours.good and pandas.good
    assert 0 < ours.cpu < 60 and 10e6 < ours.memory < 2e9 and pandas.cpu > 0
    assert elsewhere.text == "not installed: `--install` has not been run"
    assert unknown.text.startswith("failed: ValueError")  # the module has no such tool
    assert elsewhere.good is unknown.good is None and len(lines) == 3


def test_the_page_marks_what_is_better_than_thresher() -> None:
    def nothing(folder: Path, scratch: Path) -> None:
        raise AssertionError

    job = Comparison(
        "A job",
        "What is done.",
        10,
        nothing,  # type: ignore[arg-type]
        Tool("thresher", nothing),  # type: ignore[arg-type]
        (
            Tool("quick", nothing, why="It checks nothing."),  # type: ignore[arg-type]
            Tool("slow", nothing),  # type: ignore[arg-type]
            Tool("gone", nothing),  # type: ignore[arg-type]
            Tool("poor", nothing),  # type: ignore[arg-type]
        ),
        nothing,  # type: ignore[arg-type]
    )
    measured = [
        Measured("thresher", "", 2.0, 100e6, "all", True),
        Measured("quick", "1.0", 1.0, 50e6, "all", True),
        Measured("slow", "2.0", 30.0, 200e6, "all", True),
        Measured("gone", text="not installed: no wheel"),
        Measured("poor", "3.0", 1.0, 100e6, "half", False),
    ]
    text = page({"job": (job, 1234, measured)}, "the command", 2)
    assert "## A job: 1,234 rows\n" in text and "    the command\n" in text
    assert "| thresher | 2.00 | 100 | | | all |" in text
    assert "| quick 1.0 | 1.00 | 50 | **0.50** | **0.50** | all |" in text
    assert "| slow 2.0 | 30.00 | 200 | 15 | 2.00 | all |" in text
    assert "| gone | – | – | – | – | not installed: no wheel |" in text
    assert "| poor 3.0 | 1.00 | 100 | **0.50** | 1.00 | half (not as good) |" in text
    assert "\nFaster than thresher: quick (0.50), poor (0.50). Not measured: gone.\n" in text
    assert "\nquick: It checks nothing.\n" in text
    assert unexplained(job, measured) == []
    slow = [measured[0], *measured[1:2], replace(measured[2], cpu=1.0), *measured[3:]]
    assert unexplained(job, slow) == ["slow"]


def test_what_pip_says_is_kept(tmp_path: Path) -> None:
    said = "WARNING: slow\nERROR: no matching version\nhint: try another\n"
    assert environments.last_error(said) == "no matching version"
    assert environments.last_error("WARNING: slow\n") == "pip failed"
    folder = tmp_path / "peer"
    python = environments.python_of(folder)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert environments.missing("peer", tmp_path) == ""
    (folder / environments.FAILED).write_text("no matching version\n")
    assert environments.missing("peer", tmp_path) == "no matching version"
