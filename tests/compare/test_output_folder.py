"""The output folder of a comparison: what else it may contain, and what may be written into it."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.compare.shared_comparison import job_in, write_pools
from tests.text_pools import record, write_pool
from thresher.cli import main
from thresher.compare import compare
from thresher.compare.plan import ComparePlan
from thresher.compare.printing import show, show_plan
from thresher.errors import ConfigError
from thresher.methods.random import Random
from thresher.pools import open_pool
from thresher.types import Budget


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their relative paths."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(*words: str) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pool.json and test.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    write_pools(tmp_path)
    return tmp_path


COMPARE = shlex.split("compare pool.json --eval test.json -m length -b 5 --seeds 1 --model demo -o")
SELECT = shlex.split("select pool.json -m random -b 5 -o")


@pytest.mark.parametrize("more", [(), ("--plan", "--no-probe")])
def test_the_folder_of_a_selection_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    assert run(*SELECT, "w1") == 0
    before = contents(here / "w1")
    capsys.readouterr()
    assert run(*COMPARE, "w1", *more) == 2
    stderr = " ".join(capsys.readouterr().err.split())
    assert "--out w1 holds a selection" in stderr and "Give another folder." in stderr
    assert "Cell" not in stderr and contents(here / "w1") == before


def test_the_folder_of_a_selection_is_refused_in_python(here: Path) -> None:
    assert run(*SELECT, "out") == 0
    before = contents(here / "out")
    job, context, evaluate = job_in(here, seconds=0)
    with pytest.raises(ConfigError, match=r'^out=".*out" holds a selection'):
        compare(job, context, here / "out", evaluate=evaluate)
    assert contents(here / "out") == before


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_selection_is_not_written_into_a_comparison(
    here: Path, capsys: pytest.CaptureFixture[str], unfinished: bool, more: tuple[str, ...]
) -> None:
    job, context, evaluate = job_in(here, seconds=0)
    compare(job, context, here / "out", evaluate=evaluate)
    if unfinished:
        (here / "out" / "compare.json").unlink()
    before = contents(here / "out")
    assert run(*SELECT, "out", *more) == 2
    stderr = " ".join(capsys.readouterr().err.split())
    assert "--out out holds a comparison" in stderr and "Give another folder." in stderr
    assert contents(here / "out") == before


@pytest.mark.parametrize(
    ("other", "kind"), [("pool.json", "pool"), ("test.json", "evaluation set")]
)
def test_a_comparison_of_other_records_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], other: str, kind: str
) -> None:
    job, context, evaluate = job_in(here, seconds=0)
    compare(job, context, here / "out", evaluate=evaluate)
    before = contents(here / "out")
    first = 0 if kind == "pool" else 10_000
    write_pool(here / "half.json", [record(first + i) for i in range(50)])
    words = [word.replace(other, "half.json") for word in COMPARE]
    for more in ((), ("--plan", "--no-probe")):
        assert run(*words, "out", *more) == 2
        stderr = " ".join(capsys.readouterr().err.split())
        assert f"--out out holds the comparison of another {kind} (it is of {kind} " in stderr
        assert f"{other}; given: {kind} half.json). Give another folder." in stderr
        assert "Cell" not in stderr and contents(here / "out") == before
    write_pool(here / other, [record(first + i) for i in range(50)])
    job, context, evaluate = job_in(here, seconds=0)
    with pytest.raises(ConfigError, match=r"; given: .*: its rows have changed since"):
        compare(job, context, here / "out", evaluate=evaluate)
    assert contents(here / "out") == before


def test_the_folder_of_an_earlier_version_stays_usable(here: Path) -> None:
    job, context, evaluate = job_in(here, seconds=0)
    compare(job, context, here / "out", evaluate=evaluate)
    path = here / "out" / "compare.json"
    written = path.read_bytes()
    content = json.loads(written)
    del content["fingerprints"]
    path.write_text(json.dumps(content))
    compare(job, context, here / "out", evaluate=evaluate)
    assert path.read_bytes() == written


@pytest.mark.parametrize("text", ["{", "[]", '{"mine": 1}'])
def test_a_file_of_somebody_else_is_not_replaced(here: Path, text: str) -> None:
    (here / "out").mkdir()
    (here / "out" / "compare.json").write_text(text)
    job, context, evaluate = job_in(here, seconds=0)
    with pytest.raises(ConfigError, match=r"compare\.json that .* Move it, or give another"):
        compare(job, context, here / "out", evaluate=evaluate)
    assert contents(here / "out") == {"compare.json": text.encode()}


def test_comparisons_at_the_same_time_do_not_replace_each_other(here: Path) -> None:
    """The second one found an empty folder, and the first one ended before it."""
    job, context, evaluate = job_in(here, seconds=0)
    write_pool(here / "half.json", [record(i) for i in range(50)])
    other = dataclasses.replace(
        job, pool=open_pool(here / "half.json"), methods={"random": Random()}, full=False, seeds=1
    )
    other = dataclasses.replace(other, budgets=(Budget.parse("5"),), usable=np.arange(50))
    first: list[dict[str, bytes]] = []

    def begins(text: str) -> None:
        compare(job, context, here / "out", evaluate=evaluate)
        first.append(contents(here / "out"))

    with pytest.raises(ConfigError, match="holds the comparison of another pool"):
        compare(other, context, here / "out", evaluate=evaluate, report=begins)
    (before,) = first
    after = contents(here / "out")
    for name in ("compare.json", "compare.svg"):
        assert after[name] == before[name]


def test_the_files_are_named_and_nothing_more_is_done_when_all_cells_are_there(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = write_pool(here / "pool.json", [record(i) for i in range(24)])
    test = write_pool(here / "test.json", [record(i) for i in range(100, 110)])
    words = ["compare", str(pool), "--eval", str(test), *COMPARE[4:], "c1", "--no-full"]
    assert run(*words, "--plan", "--no-probe") == 0
    assert "2 cells to run: 10 rows to train on," in " ".join(capsys.readouterr().out.split())
    for again in (False, True):
        assert run(*words) == 0
        shown = capsys.readouterr()
        assert "Written to c1: compare.json, compare.svg, report.html" in shown.out
        assert (here / "c1" / "report.html").is_file()
        assert ("Cell 1 of 2" in shown.err) is not again
        said = "Note: All cells (2) were in c1 already: nothing was computed."
        assert (said in " ".join(shown.err.split())) is again
        assert "% of full" not in shown.out and "saved" not in shown.out  # --no-full


def test_the_report_is_not_named_where_it_could_not_be_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, context, evaluate = job_in(here, seconds=0)
    comparison = compare(job, context, here / "out", evaluate=evaluate)
    show(comparison, here / "out", report=False)
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith("compare.json, compare.svg")
    assert "% of full" in printed and "saved" in printed


def test_one_cell_is_not_called_cells(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(ComparePlan((), 1, 1, 0, 5, 1, None))
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "1 cell to run: 5 rows to train on, at most 1 row to score for selecting, 1 ans" in printed
    )


def test_the_command_against_repeated_questions_can_be_copied(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pool(here / "my test.json", [record(i) for i in range(3)])
    write_pool(here / "pool.json", [record(i) for i in range(24)])
    words = [word.replace("test.json", "my test.json") for word in COMPARE]
    assert run(*words, "c1") == 1
    stderr = " ".join(capsys.readouterr().err.split())
    command = "thresher doctor pool.json --eval 'my test.json' --fix COPY"
    assert f"`{command}` writes a copy without them" in stderr
    assert run(*shlex.split(command)[1:-1], "copy.json") == 0
    capsys.readouterr()
    words = [word.replace("pool.json", "copy.json") for word in words]
    assert run(*words, "c1", "--plan", "--no-probe") == 0


def test_the_help_of_the_model_names_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    """`compare` trains it; further models may be behind one."""
    assert run("compare", "--help") == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    (told,) = re.findall(r"--model MODEL (.*?) --", printed)
    assert "not a server" in told and "URL#NAME" not in told
