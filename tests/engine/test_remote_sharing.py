"""Processes without a shared folder share one job through a store at an address. fsspec's file
system of local files stands in for a server; each process has its own mirror."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests import runs as run
from tests.engine.shared_job import asked, go, started
from tests.text_pools import HighestLoss, Model, record, write_pool
from tests.warm_process import WarmProcess, WarmServer
from thresher.pools import open_pool
from thresher.storage.columns import Store
from thresher.types import Budget

fsspec = pytest.importorskip("fsspec")

ROWS = 240
JOB = """
import os, sys
from pathlib import Path
import fsspec
from tests.text_pools import HighestLoss, Model
from tests import runs as run
from thresher.selection.cost_lines import cost_line
from thresher.pools import open_pool
from thresher.storage.mirrored import MirroredStore
from thresher.storage.opening import open_store
from thresher.types import Budget

folder, number, speed = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
fsspec.config.conf["local"] = {"auto_mkdir": True}
os.environ["THRESHER_MIRRORS"] = str(folder / f"mirrors-{number}")
MirroredStore.poll_seconds = 0.1
kept = open_store(f"local://{folder}/bucket/store")
kept.check()
pool = open_pool(folder / "pool.json", cache=kept.root / "pools")
model = Model(kwargs=dict(seconds_per_row=1 / speed, log=folder / f"asked-{number}", piece=4))
print("ready", flush=True)
sys.stdin.readline()
outcome = run.select(pool, HighestLoss(), Budget.parse("20%"), model=model.handle, store=kept)
print(cost_line(outcome))
print(sorted(outcome.rows.tolist()))
"""
Start = Callable[[int, float], WarmProcess]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write_pool(tmp_path / "pool.json", [record(i) for i in range(ROWS)])
    return tmp_path


@pytest.fixture
def start(warm: WarmServer, job: Path) -> Start:
    """Starts JOB, which waits for `go`."""

    return partial(started, warm, JOB, job)


def expected(job: Path) -> str:
    """The rows that a process with a local store selects."""
    pool, model = open_pool(job / "pool.json"), Model()
    outcome = run.select(
        *(pool, HighestLoss(), Budget.parse("20%")), model=model.handle, store=Store(job / "alone")
    )
    return str(sorted(outcome.rows.tolist()))


def test_each_row_is_scored_once_and_the_selection_is_that_of_a_local_store(
    job: Path, start: Start
) -> None:
    both = [start(number, 100.0) for number in range(2)]
    for process in both:
        go(process)
    texts = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert all(process.returncode == 0 for process in both)
    assert {lines[1] for lines in texts} == {expected(job)}
    assert Counter(asked(job, 0, 1)).most_common(1)[0][1] == 1 and len(asked(job, 0, 1)) == ROWS
    assert min(len(asked(job, number)) for number in range(2)) > ROWS / 8
    assert not list((job / "bucket/store/claims").iterdir())
    again = go(start(2, 100.0)).communicate(timeout=120)[0].splitlines()
    assert again[1] == expected(job) and not asked(job, 2)


def test_rows_of_a_killed_process_are_taken_over(job: Path, start: Start) -> None:
    doomed, other = start(0, 20.0), start(1, 200.0)
    go(doomed)
    deadline = time.monotonic() + 60
    while len(asked(job, 0)) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    go(other)
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.communicate(timeout=60)
    text = other.communicate(timeout=120)[0]
    assert other.returncode == 0 and text.splitlines()[1] == expected(job)
    assert len(set(asked(job, 0, 1))) == ROWS
