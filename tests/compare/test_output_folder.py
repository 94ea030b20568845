"""The output folder of a comparison: what else it may contain, and what may be written into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compare.shared_comparison import job_in, write_pools
from thresher.cli import main
from thresher.compare import compare
from thresher.errors import ConfigError


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


COMPARE = "compare pool.json --eval test.json -m length -b 5 --seeds 1 --model demo -o".split()
SELECT = "select pool.json -m random -b 5 -o".split()


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
