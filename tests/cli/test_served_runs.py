"""Complete runs with a server, in separate processes: failures, kills, caps, and secrecy of the
key."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.openai_server import WAYS, Plan, Server, serving
from tests.text_pools import record, write_pool
from tests.warm_process import WarmProcess, WarmServer

KEY = "sk-5up3rs3cr3t-0123456789"
CONCURRENCY = 16
COMMAND = """
import os, warnings

log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
os.dup2(log, 1)
os.dup2(log, 2)
warnings.simplefilter("error")
from thresher import methods
from thresher.engine import local

methods.METHODS["asked"] = "tests.one_question_method:Asked"
local.score.__kwdefaults__["flush_rows"] = 16
from thresher.cli import main

main()
"""


class Runs:
    """A folder with a pool of `rows` text rows, and commands on it."""

    def __init__(self, warm: WarmServer, folder: Path, server: Server, rows: int) -> None:
        self.warm, self.folder, self.server = warm, folder, server
        write_pool(folder / "pool.json", [record(i) for i in range(rows)])
        self.log = folder / "log.txt"

    def start(self, *words: str, command: str = "select") -> WarmProcess:
        out = ("--out", "out") if command == "select" else ()
        served = () if "--set" in words else ("--backend", "openai", "--url", self.server.url)
        given = ["pool.json", "--method", "asked", "--budget", "50%", *out, *served, *words]
        env = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
        env |= {"THRESHER_STORE": "store", "THE_KEY": KEY}
        return self.warm.start(COMMAND, command, *given, cwd=self.folder, env=env)

    def said(self) -> str:
        """All that commands have printed so far."""
        return self.log.read_text(encoding="utf-8")

    def stored(self) -> list[bytes]:
        """The key of every stored row, doubled ones doubled."""
        parts = sorted((self.folder / "store").glob("columns/*/part-*.parquet"))
        return [key for part in parts for key in pq.read_table(part).column("key").to_pylist()]

    def wait_for(self, stored: int) -> None:
        end = time.monotonic() + 30
        while len(self.stored()) < stored:
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)


@pytest.fixture
def runs(tmp_path: Path, warm: WarmServer) -> Iterator[Any]:
    with serving(Plan(key=KEY)) as server:
        yield lambda rows, **plan: _behave(Runs(warm, tmp_path, server, rows), plan)


def _behave(made: Runs, plan: dict[str, Any]) -> Runs:
    for name, value in plan.items():
        setattr(made.server.plan, name, value)
    return made


@pytest.mark.parametrize("rows", [120, pytest.param(500, marks=pytest.mark.slow)])
def test_no_row_is_lost_or_repeated_after_failures_and_two_kills(runs: Any, rows: int) -> None:
    made: Runs = runs(
        rows, fail=0.3, hang=3.0, slow=0.2
    )  # slow: so that a busy machine does not end a run before its death
    server = made.server
    options = ("--timeout", "1", "--concurrency", str(CONCURRENCY), "--api-key-env", "THE_KEY")
    first = made.start(*options)
    made.wait_for(rows // 5)
    first.kill()
    first.wait()
    after_kill, asked = made.stored(), len(server.asked)
    assert len(after_kill) < rows
    second = made.start(*options)
    made.wait_for(len(after_kill) + 1)
    second.send_signal(signal.SIGINT)
    assert second.wait(60) == 130 and "Interrupted: stored" in made.said(), made.said()
    after_interrupt = made.stored()
    good = len([1 for fate, _, _ in server.asked[asked:] if fate == "ok"])
    # the rest was under way, or too late
    assert good - (len(after_interrupt) - len(after_kill)) <= 2 * CONCURRENCY
    asked = len(server.asked)
    assert made.start(*options).wait(60) == 0, made.said()
    again = dict.fromkeys(text for _, text, _ in server.asked[asked:])
    assert len(again) == rows - len(after_interrupt)  # exactly the missing ones

    keys = made.stored()
    assert len(keys) == len(dict.fromkeys(keys)) == rows
    assert len(dict.fromkeys(text for _, text, _ in server.asked)) == rows
    met = Counter(fate for fate, _, _ in server.asked)
    assert all(met[way] for way in WAYS), (
        met
    )  # 429 with and without Retry-After, 500, a hang, cut-off JSON, no log-probabilities …
    assert pq.read_table(made.folder / "out" / "selection.parquet").num_rows == rows // 2
    asked = len(server.asked)
    # nothing is left to request
    assert made.start(*options).wait(60) == 0 and len(server.asked) == asked

    config = yaml.safe_load((made.folder / "out" / "run.yaml").read_text())
    assert config["config"]["url"] == server.url and config["config"]["api_key_env"] == "THE_KEY"
    assert config["model"]["identity"]["weights"] == "api:scripted"
    assert all(key == f"Bearer {KEY}" for key in server.sent_keys)
    for file in sorted(made.folder.rglob("*")):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    assert server.url.encode() not in b"".join(
        f.read_bytes() for f in (made.folder / "store").rglob("*") if f.is_file()
    )

    replay = made.folder / "replay"
    words = ("select", "--config", "out/run.yaml", "--out", replay)
    env = {**os.environ, "THE_KEY": KEY}
    done = made.warm.run(*words, code=COMMAND, cwd=made.folder, env=env)
    assert done.returncode == 0, made.said()
    assert (replay / "subset.json").read_bytes() == (
        made.folder / "out" / "subset.json"
    ).read_bytes()
    assert len(server.asked) == asked


def test_run_stopped_by_a_cap_is_resumed(runs: Any) -> None:
    made: Runs = runs(50)
    capped = ("--api-key-env", "THE_KEY", "--max-requests", "20")
    for left in (30, 10):
        assert made.start(*capped).wait(60) == 1
        assert f"{left} rows of 50 are left to score." in made.said(), made.said()
        assert len(made.stored()) == 50 - left and not (made.folder / "out" / "run.yaml").exists()
    assert made.start(*capped).wait(60) == 0
    assert len(made.server.asked) == 50 and "10 requests sent" in made.said()


def test_a_teacher_behind_a_server(runs: Any) -> None:
    made: Runs = runs(30)
    teacher = ("--set", f"teacher={made.server.url}#scripted", "--api-key-env", "THE_KEY")
    assert made.start(*teacher, "--max-requests", "20").wait(60) == 1, made.said()
    assert len(made.stored()) == 20
    assert made.start(*teacher).wait(60) == 0, made.said()
    config = yaml.safe_load((made.folder / "out" / "run.yaml").read_text())
    assert (
        config["model"] is None
        and config["roles"]["teacher"]["identity"]["weights"] == "api:scripted"
    )


def test_a_plan_sends_nothing(runs: Any) -> None:
    made: Runs = runs(30)
    options = ("--model", "scripted", "--api-key-env", "THE_KEY")
    assert made.start(*options, command="plan").wait(60) == 0
    assert "30" in made.said() and not made.server.asked
