"""Replacing a selection folder, kills during the replacement, and replays from any folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.text_pools import record, write_pool
from tests.warm_process import WarmServer
from thresher.backends.identity import BUILT_IN
from thresher.errors import ConfigError
from thresher.selection import folder as output

# argv: "N" or "" (die before the Nth rename into the folder), then the command
KILLED = """
import os, signal, sys
left, replace, rename = [int(sys.argv[1])], os.replace, os.rename

def dying(move):
    def moved(a, b):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        move(a, b)
    return moved

os.replace, os.rename = dying(replace), dying(rename)
from thresher.cli import main
main(sys.argv[2:])
"""


Thresher = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def thresher(warm: WarmServer, tmp_path: Path) -> Thresher:
    """Runs `thresher WORDS` in `cwd`; it dies before the rename number `die`."""

    def run(*words: object, cwd: Path, die: int | None = None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "THRESHER_STORE": str(cwd / "store")}
        if die is None:
            return warm.run(*words, cwd=cwd, env=env)
        return warm.run(die, *words, code=KILLED, cwd=cwd, env=env)

    return run


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    write_pool(tmp_path / "data" / "pool.json", [record(i) for i in range(60)])
    write_pool(tmp_path / "data" / "more.json", [record(i + 100) for i in range(20)])
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


SELECT = ("select", "data/pool.json", "--method", "length", "-o", "out")


def test_another_request_is_refused_before_any_work_and_overwrite_replaces_it(
    here: Path, thresher: Thresher
) -> None:
    assert thresher(*SELECT, "--budget", "20%", cwd=here).returncode == 0
    before = files(here / "out")
    for changed in (
        ["--budget", "30%"],
        ["--budget", "20%", "--seed", "1"],
        ["--budget", "20%", "--drop", "d.txt"],
    ):
        (here / "d.txt").write_text("r1\n")
        refused = thresher(*SELECT, *changed, cwd=here)
        assert (
            refused.returncode == 2
            and "--overwrite" in refused.stderr
            and "Traceback" not in refused.stderr
        )
        assert "length" in refused.stderr and files(here / "out") == before
    assert thresher(*SELECT, "--budget", "30%", "--overwrite", cwd=here).returncode == 0
    assert output.read(here / "out")["counts"]["selected"] == 18
    assert not [p for p in (here / "out").iterdir() if p.name.startswith(".")]


def test_the_same_request_may_be_repeated_however_its_paths_are_spelled(
    here: Path, thresher: Thresher
) -> None:
    assert thresher(*SELECT, "--budget", "20%", cwd=here).returncode == 0
    before = files(here / "out")
    assert thresher(*SELECT, "--budget", "20%", cwd=here).returncode == 0
    assert files(here / "out") == before
    whole = (
        "select",
        here / "data" / "pool.json",
        "--method",
        "length",
        "-o",
        here / "out",
        "--budget",
        "20%",
    )
    assert thresher(*whole, cwd=here / "elsewhere").returncode == 0


def test_folder_with_a_foreign_run_yaml_is_refused(here: Path, thresher: Thresher) -> None:
    (here / "out").mkdir()
    (here / "out" / "run.yaml").write_text("epochs: 3\n")
    refused = thresher(*SELECT, "--budget", "20%", cwd=here)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    assert (here / "out" / "run.yaml").read_text() == "epochs: 3\n"


@pytest.mark.parametrize("die", range(1, 9))
def test_a_kill_leaves_the_old_selection_or_the_new_one(
    here: Path, thresher: Thresher, die: int
) -> None:
    """The renames: pool cache and others, then the one that commits, then one a file, run.yaml
    last."""
    old = (*SELECT, "--budget", "20%")
    new = (*SELECT, "--budget", "40%", "--overwrite")
    assert thresher(*new, cwd=here).returncode == 0
    expected_new = files(here / "out")
    assert thresher(*old, "--overwrite", cwd=here).returncode == 0
    expected_old = files(here / "out")
    killed = thresher(*new, cwd=here, die=die)
    if killed.returncode == 0:
        assert die > 6  # fewer renames than that
        return
    assert killed.returncode == -signal.SIGKILL
    count = output.read(here / "out")["counts"]["selected"]
    for expected, rows in ((expected_old, 12), (expected_new, 24)):
        if count == rows:
            # it is made after the exchange
            expected = {k: v for k, v in expected.items() if k != "report.html"}
            assert {k: v for k, v in files(here / "out").items() if k in expected} == expected
            break
    else:
        raise AssertionError(count)
    assert thresher(*new, cwd=here).returncode == 0
    assert files(here / "out") == expected_new
    assert not [p for p in (here / "out").iterdir() if p.name.startswith(".")]


# ------------------------------------------------------------------------------------------- replay


def test_run_yaml_replays_from_another_folder(here: Path, thresher: Thresher) -> None:
    for name in ("keep.txt", "drop.txt"):
        (here / "data" / name).write_text({"keep.txt": "r1\n", "drop.txt": "r2\n"}[name])
    options = (
        "--budget",
        "20%",
        "--keep",
        "data/keep.txt",
        "--drop",
        "data/drop.txt",
        "--images",
        "data",
    )
    assert thresher(*SELECT, *options, cwd=here).returncode == 0
    before = files(here / "out")
    replay = thresher("select", "--config", "../out/run.yaml", cwd=here / "elsewhere")
    assert replay.returncode == 0, replay.stderr
    after = files(here / "out")
    assert after.keys() == before.keys() and not list((here / "elsewhere").glob("out*"))
    for name in ("selection.parquet", "evidence.parquet", "subset.json"):
        assert after[name] == before[name]
    was, now = (yaml.safe_load(found["run.yaml"]) for found in (before, after))
    assert was.pop("notes") == ["1 row left out by --drop data/drop.txt."]
    # relative to that folder
    assert now.pop("notes") == ["1 row left out by --drop ../data/drop.txt."]
    assert was == now
    other = thresher(
        "select", "--config", here / "out" / "run.yaml", "-o", "copy", cwd=here / "elsewhere"
    )
    assert other.returncode == 0, other.stderr
    copied = files(here / "elsewhere" / "copy")
    assert copied["selection.parquet"] == before["selection.parquet"]
    for command in (
        ("report", "../out"),
        ("export", "../out", "-o", "x.json"),
        ("signals", "../out", "-o", "x.parquet"),
    ):
        done = thresher(*command, cwd=here / "elsewhere")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "pool",
    [
        "data/pool.json",
        "data/*.json",
        "a=data/pool.json,b=data/more.json",
        "data/{pool,more}.json",
        "data/mix.yaml",
    ],
)
def test_moved_folder_replays(
    here: Path, thresher: Thresher, tmp_path_factory: pytest.TempPathFactory, pool: str
) -> None:
    (here / "data" / "mix.yaml").write_text(
        "datasets:\n  - json_path: pool.json\n  - json_path: more.json\n"
    )
    if pool == "data/*.json":
        (here / "data" / "mix.yaml").unlink()
    done = thresher("select", pool, "--method", "length", "--budget", "10", "-o", "out", cwd=here)
    assert done.returncode == 0, done.stderr
    before = files(here / "out")
    moved = tmp_path_factory.mktemp("moved") / "tree"
    shutil.move(here, moved)
    here.mkdir()
    replay = thresher("select", "--config", moved / "out" / "run.yaml", cwd=moved / "elsewhere")
    assert replay.returncode == 0, replay.stderr
    assert files(moved / "out")["selection.parquet"] == before["selection.parquet"]
    assert thresher("report", moved / "out", cwd=moved / "elsewhere").returncode == 0


def test_moved_selection_finds_its_pool(here: Path, thresher: Thresher) -> None:
    assert thresher(*SELECT, "--budget", "20%", cwd=here).returncode == 0
    (here / "elsewhere" / "deep").mkdir()
    shutil.move(here / "out", here / "elsewhere" / "deep" / "out")
    moved = here / "elsewhere" / "deep" / "out"
    assert thresher("export", moved, "-o", "x.json", cwd=here / "elsewhere").returncode == 0
    assert thresher("select", "--config", moved / "run.yaml", cwd=here / "data").returncode == 0


def test_absolute_paths_are_kept(here: Path, thresher: Thresher) -> None:
    pool = here / "data" / "pool.json"
    assert (
        thresher(
            "select", pool, "--method", "length", "--budget", "9", "-o", "out", cwd=here
        ).returncode
        == 0
    )
    stored = yaml.safe_load((here / "out" / "run.yaml").read_text())
    assert stored["config"]["pool"] == str(pool) and stored["config"]["out"] == "."


def test_paths_of_user_config_are_relative_to_the_working_directory(
    here: Path, thresher: Thresher
) -> None:
    (here / "data" / "mine.yaml").write_text(
        "pool: data/pool.json\nmethod: length\nbudget: 10\nout: mine\n"
    )
    assert thresher("select", "--config", "data/mine.yaml", cwd=here).returncode == 0
    assert (here / "mine" / "run.yaml").exists()


def test_read_reports_an_invalid_selection(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a finished selection"):
        output.read(tmp_path)


def test_a_request_with_relative_paths_can_be_repeated(here: Path, thresher: Thresher) -> None:
    """`./` and `../` of a command start where it runs, those of its run.yaml in its folder."""
    shutil.copytree(BUILT_IN, here / "model")
    for cwd, up in ((here, "./"), (here / "elsewhere", "../")):
        words = ["select", f"{up}data/pool.json", "-m", "length", "-b", "10", "-o", f"{up}out"]
        words += ["--model", f"{up}model", "--filter", "answer_loss < 100"]
        for _ in range(2):
            ended = thresher(*words, cwd=cwd)
            assert ended.returncode == 0, ended.stderr
    other = thresher(*words[:-4], "--model", "demo", *words[-2:], cwd=here / "elsewhere")
    assert other.returncode == 2 and "it differs in model" in " ".join(other.stderr.split())
