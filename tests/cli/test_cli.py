"""The command line: output and files of each command, and the messages for user errors."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

import thresher.backends
from tests.fake_training import FakeTraining
from tests.text_pools import Model, record, write_pool
from tests.tiny_videos import write_video
from thresher import cli
from thresher.cli import guard
from thresher.console import progress
from thresher.errors import ConfigError
from thresher.selection import config, summary
from thresher.selection import select as run
from thresher.selection.result import Failure
from thresher.storage.columns import PROBE_BYTES


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Thresher = Callable[..., Ended]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def thresher_(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: Model,
) -> Thresher:
    """Run a command in this process, in `tmp_path`, with its own store and the fake model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(thresher.backends, "resolve", lambda spec, **options: model.handle)

    def call(*words: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(w) for w in words])
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def pool(tmp_path: Path) -> str:
    """100 text rows of three sources."""
    return str(write_pool(tmp_path / "pool.json", [record(i) for i in range(100)]))


def failed(ended: Ended, code: int, *words: str) -> None:
    """Assert that the command ended with `code`, one message on stderr that contains `words`, no
    traceback, and nothing on stdout."""
    assert ended.code == code, ended
    assert ended.out == "" and "Traceback" not in ended.err
    assert ended.err.count("Error:") == 1
    for word in words:
        assert word in ended.err


# ------------------------------------------------------------------------------------------- select


def test_select_writes_a_folder_and_a_summary(thresher_: Thresher, pool: str, model: Model) -> None:
    ended = thresher_(
        "select", pool, "--method", "clipper", "--budget", "30%", "--model", "demo", "--out", "o/c"
    )
    assert ended.code == 0
    assert "Kept 30 of 100 rows (30.0%) by clipper, seed 0." in ended.out
    assert "loss: 100 needed, 100 scored, 0 reused" in ended.out
    assert "Written to o/c: subset.json, selection.parquet, run.yaml" in ended.out
    assert "KS" in ended.out
    assert len(json.loads(Path("o/c/subset.json").read_text())) == 30
    assert "loss: 100 to do" in ended.err and "to do" not in ended.out  # progress belongs on stderr
    assert model.opened == 1


def test_second_budget_reuses_all_scores(thresher_: Thresher, pool: str, model: Model) -> None:
    thresher_(
        "select", pool, "--method", "perplexity", "--budget", "30%", "--model", "demo", "--out", "a"
    )
    ended = thresher_(
        "select", pool, "--method", "perplexity", "--budget", "10%", "--model", "demo", "--out", "b"
    )
    assert "loss: 100 needed, 0 scored, 100 reused" in ended.out
    assert "Nothing was scored" in ended.out
    assert model.opened == 1


NO_MODEL = (
    ("select", "{pool}", "-m", "perplexity", "-b", "5", "-o", "out"),
    ("select", "{pool}", "-m", "clipper", "-b", "5", "-o", "out"),
    ("select", "{pool}", "-m", "random", "-b", "5", "--dedup", "semantic", "-o", "out"),
    ("plan", "{pool}", "-m", "perplexity", "-b", "5"),
    ("plan", "{pool}", "-m", "clipper", "-b", "5", "--no-probe"),
    (
        "compare",
        "{pool}",
        "--eval",
        "{pool}",
        "--methods",
        "length",
        "--budgets",
        "50%",
        "--out",
        "out",
    ),
    ("train", "{pool}", "--out", "out"),
    ("evaluate", "--data", "{pool}"),
)


@pytest.mark.parametrize("command", NO_MODEL)
def test_there_is_no_default_model(
    thresher_: Thresher, pool: str, tmp_path: Path, model: Model, command: tuple[str, ...]
) -> None:
    ended = thresher_(*(w.format(pool=pool) for w in command))
    failed(ended, 2, "none was named", "--model demo")
    assert (
        model.opened == 0 and not (tmp_path / "out").exists() and not (tmp_path / "store").exists()
    )


def test_built_in_model_is_used_if_named(thresher_: Thresher, pool: str) -> None:
    assert (
        thresher_("select", pool, "-m", "perplexity", "--model", "demo", "-b", "5", "-o", "a").code
        == 0
    )
    assert yaml.safe_load(Path("a/run.yaml").read_text())["config"]["model"] == "demo"


def test_without_a_method_winnow_is_taken_and_recorded(
    thresher_: Thresher, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--model", "demo", "-b", "20%", "--set", "guard=off")
    for method in ((), ("-m", "winnow")):
        ended = thresher_("plan", pool, *method, *words, "--no-probe")
        assert ended.code == 0 and "winnow would keep 20" in ended.out
        assert ended.err.count("No --method given: winnow.") == (not method)
    assert thresher_("select", pool, *words, "-o", "a").code == 0
    assert thresher_("select", pool, "-m", "winnow", *words, "-o", "b").code == 0
    recorded = [yaml.safe_load(Path(f"{out}/run.yaml").read_text()) for out in "ab"]
    assert recorded[0]["config"]["method"] == recorded[1]["config"]["method"] == "winnow"
    assert thresher_("select", pool, *words, "-o", "a").code == 0  # the same request
    ended = thresher_("select", "--config", "a/run.yaml", "-o", "c")
    assert ended.code == 0 and "No --method" not in ended.err
    subsets = {Path(f"{out}/subset.json").read_bytes() for out in "abc"}
    assert len(subsets) == 1


@pytest.mark.parametrize("command", ["select", "plan"])
def test_without_a_method_and_a_model_the_error_names_methods_that_need_none(
    thresher_: Thresher, pool: str, command: str
) -> None:
    out = ("-o", "a") if command == "select" else ()
    ended = thresher_(command, pool, "-b", "5", *out)
    failed(ended, 2, "No --method given: winnow.", "winnow needs a model", "random, stratified")


def test_unneeded_model_is_not_required(thresher_: Thresher, pool: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        thresher.backends, "resolve", lambda *a, **k: pytest.fail("no model is needed")
    )
    ended = thresher_(
        "select", pool, "--method", "random", "--budget", "5", "--model", "some/model", "--out", "a"
    )
    assert ended.code == 0 and "--model some/model is not used" in ended.err


def test_before_and_after_by_source(thresher_: Thresher, pool: str) -> None:
    ended = thresher_("select", pool, "--method", "length", "--budget", "10", "--out", "a")
    kept = [r["data_source"] for r in json.loads(Path("a/subset.json").read_text())].count(
        "source0"
    )
    assert f"By source, pool → kept: source0 34.0% → {10 * kept}.0%, source1 33.0% → " in ended.out


def test_set_is_typed_and_repeatable(thresher_: Thresher, pool: str) -> None:
    ended = thresher_(
        "select",
        pool,
        "-m",
        "clipper",
        "--model",
        "demo",
        "-b",
        "20",
        "-o",
        "a",
        "--set",
        "bins=3 prefer=none",
        "--set",
        "bank=4",
    )
    assert ended.code == 0
    settings = yaml.safe_load(Path("a/run.yaml").read_text())["method"]["settings"]
    assert (settings["bins"], settings["prefer"], settings["bank"]) == (3, "none", 4)


def test_several_settings_after_one_set(thresher_: Thresher, pool: str) -> None:
    words = (
        "-m",
        "clipper",
        "--model",
        "demo",
        "-b",
        "20",
        "--set",
        "bins=3",
        "prefer=none",
        "bank=4",
        "-o",
        "a",
    )
    assert thresher_("select", pool, *words).code == 0
    settings = yaml.safe_load(Path("a/run.yaml").read_text())["method"]["settings"]
    assert (settings["bins"], settings["prefer"], settings["bank"]) == (3, "none", 4)
    assert (
        "prefer=top"
        in thresher_(
            "select", "--config", "a/run.yaml", "-o", "b", "-s", "bins=3", "prefer=top"
        ).err
    )
    pool_behind = thresher_(
        "select",
        "-m",
        "clipper",
        "--model",
        "demo",
        "-b",
        "20",
        "-o",
        "c",
        "--set",
        "bins=3",
        f"mine={pool}",
    )
    assert (
        pool_behind.code == 0
        and yaml.safe_load(Path("c/run.yaml").read_text())["config"]["pool"] == f"mine={pool}"
    )


def test_values_with_spaces(thresher_: Thresher, pool: str, tmp_path: Path) -> None:
    folder = tmp_path / "my folder"
    folder.mkdir()
    (folder / "x.yaml").write_text("gauge_reading: reading a value off a dial\n")
    words = ("plan", pool, "-m", "mmssr", "-b", "20", "--model", "demo", "--no-probe", "--json")
    given = (
        f"capability_file={folder / 'x.yaml'}",
        "capabilities=ocr, gauge_reading",
        "weights=ocr:2, gauge_reading:1",
    )
    for settings in (
        ("--set", *given),
        ("--set", given[0], "-s", *given[1:]),
        (f"--set={given[0]}", *given[1:]),
    ):
        ended = thresher_(*words, *settings)
        assert ended.code == 0, ended.err
        labels = [s["label"] for s in json.loads(ended.out)["signals"]]
        assert labels[:2] == ["score_optical_character_recognition", "score_gauge_reading"]
    missing = thresher_(*words, "--set", f"capability_file={folder / 'y.yaml'}")
    failed(missing, 2, f"{folder / 'y.yaml'} cannot be read")
    failed(thresher_(*words, "--set", "weights=ocr:2,", "icl:1"), 2, "(icl:1)", "quote the setting")


@pytest.mark.parametrize("method", ["random", "stratified", "length", "perplexity", "clipper"])
def test_budget_above_the_pool_selects_all_with_a_note(
    thresher_: Thresher, pool: str, method: str
) -> None:
    ended = thresher_("select", pool, "-m", method, "-b", "100000", "--model", "demo", "-o", "a")
    assert ended.code == 0 and "Kept 100 of 100 rows (100.0%)" in ended.out
    assert (
        "Note: --budget 100000 is more than the pool has (100 rows): it means all of them."
        in ended.out
    )
    assert Path("a/subset.json").read_bytes() == Path(pool).read_bytes()
    replay = thresher_("select", "--config", "a/run.yaml", "-o", "b")
    assert replay.code == 0 and Path("b/subset.json").read_bytes() == Path(pool).read_bytes()


def test_missing_model_is_reported_as_typed(
    thresher_: Thresher, pool: str, monkeypatch: Any
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(Path(pool).parent)
    monkeypatch.setenv("THRESHER_STORE", "store")
    Path("empty").mkdir()
    words = ("select", pool, "-m", "mmssr", "-b", "5", "-o", "a")
    for typed, text in (
        (("--set", "judge=/no/such"), "--set judge=/no/such: no such folder"),
        (("--set", "scorer=/no/such", "styler=demo"), "--set scorer=/no/such: no such folder"),
        (("--set", "scorer=demo", "styler=/no/such"), "--set styler=/no/such: no such folder"),
        (
            ("--model", "demo", "--set", "teacher=/no/such"),
            "--set teacher=/no/such: no such folder",
        ),
        (("--model", "demo", "--teacher", "/no/such"), "--teacher /no/such: no such folder"),
        (("--model", "/no/such"), "--model /no/such: no such folder"),
        (("--set", "judge=empty"), "--set judge=empty: the folder has no config.json"),
        (
            ("--model", "demo", "--teacher", "a", "--set", "teacher=b"),
            ("--teacher and --set teacher=… name two models"),
        ),
    ):
        ended = thresher_(*words, *typed)
        failed(ended, 2, text)
        assert "--model" not in ended.err or "--model /no" in text
        # caches only: what was read of the pool, and hashes of a model that exists
        left = {p.name for p in Path("store").glob("*")}
        assert left <= {"models", "pools"} and Path("store").exists() == bool(left)
    assert not Path("a").exists()


def test_run_yaml_replays_and_flags_take_precedence(thresher_: Thresher, pool: str) -> None:
    thresher_(
        "select",
        pool,
        "-m",
        "perplexity",
        "--model",
        "demo",
        "-b",
        "20%",
        "--set",
        "where=top",
        "--seed",
        "3",
        "-o",
        "a",
    )
    assert thresher_("select", "--config", "a/run.yaml", "-o", "b").code == 0
    for name in ("subset.json", "selection.parquet"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    assert (
        thresher_(
            "select", "--config", "a/run.yaml", "-o", "c", "-b", "7", "--set", "where=bottom"
        ).code
        == 0
    )
    assert len(json.loads(Path("c/subset.json").read_text())) == 7
    replayed = yaml.safe_load(Path("c/run.yaml").read_text())["config"]
    assert replayed["seed"] == 3 and replayed["settings"]["where"] == "bottom"


def test_failures_are_counted_listed_and_left_out(thresher_: Thresher, tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    for i in (3, 40, 41, 90):
        records[i]["conversations"][1]["value"] = ""
    pool = str(write_pool(tmp_path / "pool.json", records))
    ended = thresher_("select", pool, "-m", "perplexity", "--model", "demo", "-b", "30%", "-o", "a")
    assert ended.code == 0
    assert "4 of 100 rows could not be used and were left out" in ended.out
    assert (
        "4 x no-answer: every answer is empty [row 3 (id r3), row 40 (id r40), row 41 (id r41), "
        "...]"
    ) in ended.out
    assert (
        "a/failures.jsonl" in ended.out
        and len(Path("a/failures.jsonl").read_text().splitlines()) == 4
    )
    assert ended.out.count("could not be used") == 1
    refused = thresher_(
        "select",
        pool,
        "-m",
        "perplexity",
        "--model",
        "demo",
        "-b",
        "30%",
        "-o",
        "b",
        "--on-missing",
        "refuse",
    )
    failed(refused, 1, "4 of 100 rows", "--on-missing exclude")


def test_interrupted(thresher_: Thresher, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(task: Any, context: Any) -> None:
        context.progress.start("loss", 100, 0)
        context.progress.advance(48)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "select", interrupted)
    ended = thresher_("select", pool, "-m", "perplexity", "--model", "demo", "-b", "30%", "-o", "a")
    assert ended.code == 130
    assert (
        "stored 48 rows; run the same command to continue" in ended.err
        and "Traceback" not in ended.err
    )


def test_second_interrupt_exits_at_once() -> None:
    """While the interpreter waits for threads of the first: without this it ends under them, and
    torch aborts."""
    code = """
import threading, time
from thresher import cli
def command(words, **more):
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("working", flush=True)
    return 130  # as after a first Ctrl-C
cli.program = lambda: command
cli.main()
"""
    made = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert made.stdout is not None and made.stdout.readline() == "working\n"
    time.sleep(0.5)
    made.send_signal(signal.SIGINT)
    assert made.wait(20) == 130 and "KeyboardInterrupt" not in made.communicate()[1]


def test_bug_shows_a_traceback(
    pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(*args: Any, **more: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(run, "select", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main(
            [
                "select",
                pool,
                "-m",
                "random",
                "-b",
                "30%",
                "-o",
                str(tmp_path / "a"),
                "--store",
                str(tmp_path / "s"),
            ]
        )
    assert "bug in thresher" in capsys.readouterr().err


# -------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("0.3", ("30%",)),
        ("0%", ("above 0%",)),
        ("101%", ("at most 100%",)),
        ("-5", ("negative",)),
        ("abc", ("not a budget", "30%")),
        ("0", ("at least one",)),
    ],
)
def test_wrong_budgets(thresher_: Thresher, pool: str, budget: str, words: tuple[str, ...]) -> None:
    failed(
        thresher_("select", pool, "-m", "random", f"--budget={budget}", "-o", "a"),
        2,
        budget,
        *words,
    )
    assert not Path("a").exists()
    failed(
        thresher_("select", pool, "-m", "random", "--budget", budget, "-o", "a"), 2, budget, *words
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("select POOL -m clippr -b 30% -o a", ("clippr", "Did you mean 'clipper'?")),
        ("select POOL -m perplexity --set wher=top -b 30% -o a", ("wher", "Did you mean 'where'?")),
        (
            "select POOL -m perplexity --set where=mid -b 30% -o a",
            ("where=mid", "top | middle | bottom"),
        ),
        ("select POOL -m perplexity --set where -b 30% -o a", ("key=value",)),
        ("select POOL -m random --set where=top -b 30% -o a", ("random", "no settings")),
        ("select -m clipper --set bins=3 bank=4 POOL -b 30% -o a", ("POOL --set a=1 b=2",)),
        ("select POOL -m clipper --set bins=3 --set bins=4 -b 30% -o a", ("bins", "twice")),
        ("select POOL -m random -b 30%", ("Missing", "--out")),
        ("select -m random -b 30% -o a", ("Missing", "POOL")),
        (
            "select POOL -m random -b 30% -o a --on-missing never",
            ("never", "auto, exclude, refuse"),
        ),
        ("select POOL -m perplexity -b 30% -o a --dtype float8", ("float8", "bfloat16")),
        (
            "select POOL -m perplexity -b 30% -o a --device cdua",
            ("--device cdua", "cuda:1", "Did you mean 'cuda'?"),
        ),
        ("select POOL -m perplexity -b 30% -o a --batch-tokens 0", ("--batch-tokens 0",)),
        ("select POOL -m random -b 30% -o a --seed -1", ("--seed -1",)),
        *(
            (f"{command} {flag} {given}", (f"{flag} {given}: expected {expected}.",))
            for command, flag, given, expected in (
                ("select POOL -m random -b 3 -o a", "--seed", "one", "a whole number"),
                ("select POOL -m random -b 3 -o a", "--seed", "1e3", "a whole number"),
                ("select POOL -m random -b 3 -o a", "--max-cost", "free", "a number"),
                ("select POOL -m random -b 3 -o a", "--video-frames", "2.5", "a whole number"),
                (
                    *("select POOL -m random -b 3 -o a", "--video-frames", "99999999"),
                    "a number of frames from 1 to 10,000",
                ),
                (
                    *("doctor POOL", "--video-frames", "0"),
                    "a number of frames from 1 to 10,000",
                ),
                ("train POOL --model x -o a", "--steps", "2.5", "a whole number"),
                ("train POOL --model x -o a", "--lr", "x", "a number"),
                ("demo", "--seed", "-1", "a number of at least 0"),
            )
        ),
        ("select POOL -m random -b 30% -o pool.json", ("pool.json", "is a file")),
        ("select --config none.yaml", ("none.yaml", "no such file")),
        ("select POOL --metod random", ("--metod", "--method")),
        ("selct POOL", ("selct", "Did you mean 'select'")),
        ("methods clippr", ("Did you mean 'clipper'?",)),
        ("export nowhere --out x.json", ("nowhere",)),
        ("signals nowhere --out x.parquet", ("nowhere",)),
        ("signals nowhere --out x.csv", ("x.csv", ".parquet")),
    ],
)
def test_wrong_commands(
    thresher_: Thresher, pool: str, command: str, words: tuple[str, ...]
) -> None:
    failed(thresher_(*command.replace("POOL", pool).split()), 2, *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("does not exist",)),
        ("", ("empty",)),
        ('[{"id": "a", "conversations": [{"from": "human", "value": "Q', ("pool.json",)),
        ('{"id": "a"}', ("pool.json", "list")),
        ("just words", ("pool.json", "expected")),
    ],
)
def test_wrong_pools(
    thresher_: Thresher, tmp_path: Path, content: str | None, words: tuple[str, ...]
) -> None:
    if content is not None:
        (tmp_path / "pool.json").write_text(content)
    for command in ("select", "plan"):
        out = ["-o", "a"] if command == "select" else []
        for method in (("random",), ("perplexity", "--model", "demo")):
            failed(thresher_(command, "pool.json", "-m", *method, "-b", "30%", *out), 1, *words)
    failed(thresher_("doctor", "pool.json"), 1, *words)
    assert not (tmp_path / "store").exists() and not (tmp_path / "a").exists()


def test_missing_image_folder(thresher_: Thresher, pool: str) -> None:
    failed(
        thresher_("select", pool, "--images", "nowhere", "-m", "random", "-b", "3", "-o", "a"),
        1,
        "nowhere",
        "--images",
    )


def test_out_below_a_file(thresher_: Thresher, pool: str) -> None:
    failed(
        thresher_("select", pool, "-m", "random", "-b", "3", "-o", "pool.json/a"),
        2,
        "pool.json/a",
        "cannot be written",
    )


def test_out_that_contains_the_pool(thresher_: Thresher, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "here" / "subset.json", [record(i) for i in range(10)])
    before = pool.read_bytes()
    failed(
        thresher_("select", str(pool), "-m", "random", "-b", "3", "-o", "here"),
        2,
        "holds the pool itself",
    )
    assert pool.read_bytes() == before


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda folder: None, 2, ("config.json",)),
        (lambda folder: (folder / "config.json").write_text("{"), 1, ("config.json",)),
        (
            lambda folder: (folder / "config.json").write_text(
                json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
            ),
            2,
            ("llama",),
        ),
    ],
    ids=["no config", "broken config", "text only"],
)
def test_wrong_models(
    tmp_path: Path,
    pool: str,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object],
    code: int,
    words: tuple[str, ...],
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    make(folder)
    (folder / "model.safetensors").touch()
    out, store = str(tmp_path / "a"), str(tmp_path / "store")
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                "select",
                pool,
                "-m",
                "clipper",
                "-b",
                "3",
                "-o",
                out,
                "--store",
                store,
                "--model",
                str(folder),
            ]
        )
    captured = capsys.readouterr()
    failed(Ended(int(ended.value.code or 0), captured.out, captured.err), code, str(folder), *words)


@pytest.mark.parametrize("name", ["nothing", "no/such"])
def test_missing_model(
    tmp_path: Path,
    pool: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                "select",
                pool,
                "-m",
                "clipper",
                "-b",
                "3",
                "-o",
                "a",
                "--store",
                "store",
                "--model",
                name,
            ]
        )
    captured = capsys.readouterr()
    failed(
        Ended(int(ended.value.code or 0), captured.out, captured.err),
        2,
        f"--model {name}",
        "no such folder",
    )


def test_errors_without_a_terminal_are_plain(pool: str, tmp_path: Path) -> None:
    """In a separate process, as a script sees it: no colours, no boxes, no traceback."""
    words = [
        sys.executable,
        "-m",
        "thresher",
        "select",
        pool,
        "-m",
        "random",
        "-b",
        "0.3",
        "-o",
        str(tmp_path / "a"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("Error: --budget 0.3") and done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr and "│" not in done.stderr


# ----------------------------------------------------------------------------------- other commands


def test_version_and_help(thresher_: Thresher) -> None:
    assert thresher_("--version").out == f"thresher {thresher.__version__}\n"
    displayed = thresher_("--help").out
    for command in ("demo", "select", "plan", "methods", "doctor", "signals", "export"):
        assert f" {command} " in displayed
        assert thresher_(command, "--help").code == 0
    nothing = thresher_()
    assert nothing.code == 2 and "Usage" in nothing.out


def test_methods(thresher_: Thresher) -> None:
    from thresher.methods import METHODS

    displayed = thresher_("methods").out
    assert all(f" {name} " in displayed for name in METHODS)
    for word in (
        "knowledge_ratio",
        "most_helped | least_helped | none",
        "log-probabilities",
        "nothing",
    ):
        assert word in displayed
    only = thresher_("methods", "perplexity").out
    assert "where" in only and "clipper" not in only
    rows = json.loads(thresher_("methods", "--json").out)
    assert [r["name"] for r in rows] == list(METHODS)
    needs = {r["name"]: r["needs"] for r in rows}
    assert needs["random"] == [] and needs["clipper"] == ["log-probabilities"]


def test_plan(thresher_: Thresher, pool: str, model: Model) -> None:
    words = ("plan", pool, "-m", "clipper", "-b", "30%", "--model", "demo")
    before = thresher_(*words)
    assert before.code == 0
    assert "clipper would keep 30 of 100 rows (30.0%)" in before.out and "at most 100" in before.out
    assert not Path("store/columns").exists()
    thresher_("select", pool, "-m", "clipper", "-b", "30%", "--model", "demo", "-o", "a")
    after = thresher_(*words)
    assert "Nothing is left to score" in after.out
    assert json.loads(thresher_(*words, "--json").out)["to_score"] == 0
    assert "needs no model" in thresher_("plan", pool, "-m", "random", "-b", "3").out


def test_doctor(thresher_: Thresher, tiny_pool: Path) -> None:
    images = str(tiny_pool.parent / "images")
    healthy = thresher_("doctor", tiny_pool, "--images", images)
    assert healthy.code == 0 and "lose no row" in healthy.out
    (tiny_pool.parent / "images" / "one" / "grey.png").write_bytes(b"not an image")
    sick = thresher_("doctor", tiny_pool, "--images", images)
    assert sick.code == 1 and "not-an-image" in sick.out and "grey.png" in sick.out
    report = json.loads(thresher_("doctor", tiny_pool, "--images", images, "--json").out)
    assert report["lost"] == 2 and report["fails"] is True


def test_doctor_reads_videos_where_they_are_scored(thresher_: Thresher, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 4)
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "It."}]
    rows = [{"video": name, "conversations": turns} for name in ("a.mp4", "gone.mp4")]
    (tmp_path / "pool.json").write_text(json.dumps(rows))

    def found(*words: str) -> dict[str, int]:
        report = json.loads(thresher_("doctor", str(tmp_path / "pool.json"), "--json", *words).out)
        return {f["kind"]: f["rows"] for f in report["findings"] if f["severity"] == "error"}

    assert found() == {"video": 2}
    assert found("--video-frames", "2") == {"missing-video": 1}
    refused = thresher_("doctor", str(tmp_path / "pool.json"), "--video-frames", "0")
    assert refused.code == 2 and "--video-frames 0: expected a number of frames" in refused.err


def test_export(thresher_: Thresher, pool: str) -> None:
    thresher_("select", pool, "-m", "random", "-b", "10", "-o", "a")
    assert (
        "10 rows written to x.jsonl"
        in thresher_("export", "a", "--format", "llava-jsonl", "--out", "x.jsonl").out
    )
    lines = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    assert lines == json.loads(Path("a/subset.json").read_text())
    assert thresher_("export", "a", "--out", "y.json").code == 0
    assert Path("y.json").read_bytes() == Path("a/subset.json").read_bytes()
    failed(
        thresher_("export", "a", "--format", "llava-jsn", "--out", "z"),
        2,
        "llava-jsn",
        "llava-json",
    )
    write_pool(Path(pool), [record(i) for i in range(1, 101)])
    failed(thresher_("export", "a", "--out", "w.json"), 1, "no longer the pool")


def test_signals(thresher_: Thresher, pool: str, model: Model) -> None:
    thresher_("select", pool, "-m", "perplexity", "--model", "demo", "-b", "10", "-o", "a")
    assert "loss.nll" in thresher_("signals", "a", "--out", "s.parquet").out
    table = pq.read_table("s.parquet")
    assert table.num_rows == 100 and table["row"].to_pylist() == list(range(100))
    assert model.opened == 1


def test_demo(thresher_: Thresher, monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    from thresher.demo import command, comparison

    training = FakeTraining(Path("trainings"))
    monkeypatch.setattr(command, "resolve", lambda spec, **options: model.handle)
    monkeypatch.setattr(command, "is_usable", lambda extra: True)
    monkeypatch.setattr(comparison, "make_trainer", lambda **options: training.trainer)
    ended = thresher_("demo", "--rows", "300", "--out", "d")
    assert ended.code == 0, ended.err
    for word in (
        "1. A pool.",
        "source: basic_vqa",
        "answer: yes/no",
        "wrong answers *",
        "3. Left out as probably wrong",
        "The interval contains zero",  # a fake model answers nothing
        "thresher select",
    ):
        assert word in ended.out
    assert len(json.loads(Path("d/subset.json").read_text())) == 30
    assert [call["rows"] for call in training.calls()] == [30, 30]
    assert Path("d/run.yaml").is_file() and Path("d/selection.parquet").is_file()
    again = thresher_("demo", "--rows", "300", "--out", "d")
    assert "(0 now, " in again.out and len(training.calls()) == 2
    monkeypatch.setattr(command, "is_usable", lambda extra: False)
    untrained = thresher_("demo", "--rows", "300", "--out", "d")
    assert untrained.code == 0 and "training is not installed" in untrained.out


# ------------------------------------------------------------------------------------------- config


def test_config_file_cannot_enable_remote_code(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: clipper\ntrust_remote_code: true\n")
    with pytest.raises(ConfigError, match="trust_remote_code=True"):
        config.combine(config.read(file), {})
    assert config.combine(config.read(file), {"trust_remote_code": True}).trust_remote_code is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metod: clipper", "Did you mean 'method'"),
        ("seed: many", "whole number"),
        ("seed: true", "whole number"),
        ("retry_errors: 1", "true or false"),
        ("settings: [a, b]", "key: value"),
        ("pool: [a, b]", "one value"),
        ("- a", "expected lines"),
        ("a: b: c", "is not valid YAML: line 1"),
        ("", "expected lines"),
    ],
)
def test_wrong_config_files(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        config.read(file)


def test_config_values_have_command_line_syntax(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "budget: 500\nsettings: {bins: 20, mirror: true, ratio: 0.5, knowledge_ratio: null}\n"
    )
    result = config.combine(config.read(file), {})
    assert result.budget == "500"
    assert result.settings == {
        "bins": "20",
        "mirror": "true",
        "ratio": "0.5",
        "knowledge_ratio": "none",
    }
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump({"config": result.to_mapping()}))
    assert config.combine(config.read(again), {}) == result


def test_another_method_ignores_settings_of_the_config_file() -> None:
    file = {"method": "perplexity", "settings": {"where": "top"}}
    assert config.combine(file, {"method": "length"}).settings == {}
    assert config.combine(file, {"method": "perplexity"}).settings == {"where": "top"}


def test_default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THRESHER_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert config.default_store() == Path("/c/thresher")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert config.default_store() == Path.home() / ".cache" / "thresher"
    monkeypatch.setenv("THRESHER_STORE", "/s")
    assert config.default_store() == Path("/s")


# -------------------------------------------------------------------------------- progress, summary


def test_plain_lines_are_printed_at_most_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    lines = progress.LineProgress(clock=lambda: now[0])
    lines.start("loss", 1000, 200)
    for _ in range(800):
        now[0] += 0.125
        lines.advance(1)
    lines.finish()
    captured = capsys.readouterr().err.splitlines()
    assert captured[0] == "loss: 800 to do, 200 in the store"
    assert captured[1] == "loss: 280 of 1,000 (28%), 8.0/s, 1 min 30 s left"
    assert captured[-1] == "loss: 800 in 1 min 40 s (8.0/s)"
    assert len(captured) == 1 + 9 + 1
    assert lines.rows == 800


def test_rate_covers_the_last_half_minute() -> None:
    now = [0.0]
    meter = progress.Meter(10_000, 0, lambda: now[0])
    for speed, seconds in ((100, 60), (10, 60)):
        for _ in range(seconds):
            now[0] += 1
            meter.advance(speed)
    assert meter.rate() == pytest.approx(10)
    assert meter.left() == pytest.approx((10_000 - 6_600) / 10)


def test_bar_is_drawn_on_a_terminal() -> None:
    import io

    from rich.console import Console

    stream = io.StringIO()
    bar = progress.BarProgress(Console(file=stream, force_terminal=True, width=100))
    bar.start("loss", 50, 10)
    bar.advance(40)
    bar.finish()
    assert "loss" in stream.getvalue() and "50/50" in stream.getvalue()
    bar.start("nothing", 50, 50)  # nothing to do: no bar
    bar.advance(0)
    bar.finish()
    assert "nothing" not in stream.getvalue() and bar.rows == 40


def test_fast_reading_prints_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    reading = progress.ReadProgress("pool.json", clock=lambda: now[0])
    for _ in range(30):
        now[0] += 1
        reading(1000)
    assert capsys.readouterr().err.splitlines() == [
        "Reading pool.json: 10,000 rows (1,000/s)",
        "Reading pool.json: 20,000 rows (1,000/s)",
        "Reading pool.json: 30,000 rows (1,000/s)",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_wrap_on_terminals_only() -> None:
    text = (
        "[bold]clipper[/] keeps 30 of 100 rows; see out/a-path/that-is-longer/than-the-line and  "
        "go on."
    )
    for width in (20, 33, 200):
        displayed = _Terminal()
        summary.say(Console(file=displayed, width=width, no_color=True, highlight=False), text)
        lines = re.sub("\x1b\\[[0-9;]*m", "", displayed.getvalue()).splitlines()
        assert " ".join(" ".join(lines).split()) == " ".join(re.sub(r"\[.*?\]", "", text).split())
        assert all(len(line) <= width or " " not in line for line in lines)
    piped = io.StringIO()
    summary.say(Console(file=piped, width=20), text)
    assert piped.getvalue().count("\n") == 1


def test_summary_without_a_model_mentions_no_scores(
    thresher_: Thresher, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = str(write_pool(tmp_path / "p.json", [record(i) for i in range(60)]))
    # the model's answers are all wrong
    monkeypatch.setattr("thresher.backends.fake._nats", lambda purpose, data: 5.0)
    text = thresher_("select", pool, "-m", "clipper", "--model", "demo", "-b", "20", "-o", "a").out
    assert "one_shot_p: 60 needed, none sent to the model" in text
    assert "one_shot_w: 60 needed, 60 scored" in text and model.scored == 120


def test_failures_are_grouped_by_kind() -> None:
    failures = [
        Failure(i, "", "", "loss", f"image a/{i}.png is broken at byte {i}") for i in range(3)
    ]
    kinds = summary.failure_kinds([Failure(9, "", "", "loss", "no answer"), *failures])
    assert [[f.row for f in kind] for kind in kinds] == [[0, 1, 2], [9]]


def test_small_sources_are_grouped() -> None:
    import numpy as np

    source = np.repeat(np.arange(20), np.arange(20, 0, -1)).astype(np.int32)
    groups = summary.by_source(source, tuple(f"s{i}" for i in range(20)))
    assert len(groups) == summary.MOST_SOURCES
    assert groups[0][0] == "s0" and groups[-1][0] == "9 smaller sources"
    assert sum(int(mask.sum()) for _, mask in groups) == len(source)


@pytest.mark.parametrize(("no_color", "red"), [("", True), ("1", False)])
def test_no_color(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_color: str, red: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    texts: list[str] = []
    monkeypatch.setattr(guard.typer, "echo", lambda text, err: texts.append(text))
    guard.fail("bad")
    assert ("\x1b[1;31m" in texts[0]) == red and "bad" in texts[0]


@pytest.mark.parametrize(
    "command",
    [
        ("select", "{pool}", "-m", "perplexity", "--model", "demo", "-b", "5", "--out", "out"),
        ("select", "{pool}", "-m", "random", "-b", "5", "--out", "out"),
        ("plan", "{pool}", "-m", "perplexity", "--model", "demo", "-b", "5"),
        ("evaluate", "--data", "{pool}", "--model", "demo"),
        (
            "compare",
            "{pool}",
            "--model",
            "demo",
            "--eval",
            "{pool}",
            "--methods",
            "length",
            "--budgets",
            "50%",
            "--out",
            "out",
        ),
    ],
)
def test_store_that_is_a_file_is_refused_first(
    thresher_: Thresher, pool: str, tmp_path: Path, model: Model, command: tuple[str, ...]
) -> None:
    (tmp_path / "good.json").write_text("[]")
    ended = thresher_(*(w.format(pool=pool) for w in command), "--store", "good.json")
    assert (
        ended.code == 2
        and "--store good.json is a file" in ended.err
        and "Traceback" not in ended.err
    )
    assert model.opened == 0 and (tmp_path / "good.json").read_text() == "[]"


def test_unwritable_store_matters_only_if_needed(
    thresher_: Thresher, pool: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def read_only(file: int) -> None:
        if os.fstat(file).st_size == PROBE_BYTES:
            raise OSError(30, "Read-only file system")
        fsync(file)

    monkeypatch.setattr(os, "fsync", read_only)
    ended = thresher_(
        "select", pool, "-m", "perplexity", "--model", "demo", "-b", "5", "--out", "out"
    )
    assert (
        ended.code == 1
        and "cannot be written to: Read-only file system" in ended.err
        and model.opened == 0
    )
    assert thresher_("select", pool, "-m", "random", "-b", "5", "--out", "out").code == 0


def test_full_disk_keeps_the_old_signals_file(
    thresher_: Thresher, pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        thresher_(
            "select", pool, "-m", "perplexity", "--model", "demo", "-b", "5", "--out", "out"
        ).code
        == 0
    )
    assert thresher_("signals", "out", "--out", "t/s.parquet").code == 0
    before = (tmp_path / "t/s.parquet").read_bytes()

    def full(table: Any, where: Any, **options: Any) -> None:
        Path(where).write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    ended = thresher_("signals", "out", "--out", "t/s.parquet")
    assert ended.code == 1 and "No space left" in ended.err
    assert (tmp_path / "t/s.parquet").read_bytes() == before
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["s.parquet"]
