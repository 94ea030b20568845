"""SIGKILL at any moment, then the same command again: it finishes, scores only missing rows, and
writes the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.text_pools import record, write_pool
from tests.warm_process import WarmProcess, WarmServer

FLUSH_ROWS, PIECE = 200, 32

# The job as a separate process. Small parts and early merges, so that kills hit each of them;
# "ready" once Python is up. argv: folder, rows per second (0 = no limit), "before:7" or "after:7" =
# die around the 7th rename ("" = do not).
JOB = f"""
import os, signal, sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from tests.text_pools import Model, Nested
from thresher.selection import folder as output
from tests import runs as run
from thresher.storage import columns as store
from thresher.engine import local
from thresher.pools import open_pool
from thresher.types import Budget

folder, speed, die = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
local.score.__kwdefaults__["flush_rows"] = {FLUSH_ROWS}
store.MERGE_ABOVE = 4
if die:
    when, number = die.split(":")
    left, rename = [int(number)], os.replace

    def replace(a, b):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(a, b)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
print("ready", flush=True)
kept = store.Store(folder / "store")
pool = open_pool(folder / "pool.json", cache=kept.root / "pools")
model = Model(kwargs=dict(seconds_per_row=1 / speed if speed else 0, log=folder / "asked", piece={PIECE}))
outcome = run.select(pool, Nested(), Budget.parse("20%"), model=model.handle, store=kept)
output.write(outcome, pool, None, folder / "out")
"""  # noqa: E501


class Job:
    """A folder with a pool, and the job on it."""

    def __init__(self, warm: WarmServer, folder: Path, rows: int, speed: float) -> None:
        self.warm, self.folder, self.speed = warm, folder, speed
        write_pool(folder / "pool.json", [record(i) for i in range(rows)])

    def start(self, die: str = "") -> WarmProcess:
        """A process that has done its imports."""
        process = self.warm.start(JOB, self.folder, self.speed, die)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    def asked(self) -> int:
        """Rows that the model was asked about, by all processes so far."""
        log = self.folder / "asked"
        return len(log.read_bytes().splitlines()) if log.exists() else 0

    def files(self) -> dict[str, bytes]:
        return {
            p.name: p.read_bytes()
            for p in (self.folder / "out").iterdir()
            if not p.name.startswith(".")
        }

    def uninterrupted(self) -> tuple[dict[str, bytes], float]:
        """The files and the seconds of a run in peace; afterwards the folder is as before."""
        process = self.start()
        began = time.monotonic()
        assert process.wait() == 0
        seconds = time.monotonic() - began
        files = self.files()
        self.clear()
        return files, seconds

    def clear(self) -> None:
        for name in ("out", "store"):
            shutil.rmtree(self.folder / name)
        (self.folder / "asked").unlink()


def test_ten_kills_at_random_moments(tmp_path: Path, warm: WarmServer) -> None:
    rows = 3000
    job = Job(warm, tmp_path, rows, speed=4000)
    expected, seconds = job.uninterrupted()
    assert sorted(expected) == ["evidence.parquet", "run.yaml", "selection.parquet", "subset.json"]
    moments = random.Random(os.urandom(8))  # other moments every time: that is the point
    waits = [moments.uniform(0, 0.18 * seconds) for _ in range(10)]
    killed = 0
    for wait in waits:
        process = job.start()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
    print(
        "killed after",
        [f"{w:.2f}" for w in waits],
        "of",
        f"{seconds:.2f} s; asked so far:",
        job.asked(),
    )
    assert killed >= 5
    assert job.start().wait() == 0
    assert job.files() == expected
    lost_rows = job.asked() - 3 * rows
    assert 0 <= lost_rows <= killed * (FLUSH_ROWS + PIECE), (
        f"{lost_rows} rows were paid for twice after {killed} kills"
    )

    before = job.asked()
    assert job.start().wait() == 0  # and a run with nothing left to score
    assert job.asked() == before and job.files() == expected


@pytest.fixture(scope="module")
def small(
    warm: WarmServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, dict[str, bytes]]:
    job = Job(warm, tmp_path_factory.mktemp("small"), 600, speed=0)
    return job, job.uninterrupted()[0]


# The renames of the job on 600 rows: 1 the parsed pool, 2 signal.json, 3-5 parts, 6 signal.json,
# 7-11 parts, 12 the merge of these five, 13 a part, 14 the exporter's, 15-17 subset, selection,
# run.yaml.
@pytest.mark.parametrize(
    "point", ["before:2", "after:3", "before:12", "after:12", "before:16", "before:17"]
)
def test_kill_around_a_rename(small: tuple[Job, dict[str, bytes]], point: str) -> None:
    job, expected = small
    assert job.start(point).wait() == -signal.SIGKILL
    if point == "before:17":
        assert "run.yaml" not in job.files()  # the folder does not claim to be complete
    assert job.start().wait() == 0
    assert job.files() == expected
    assert job.asked() <= 3 * 600 + FLUSH_ROWS + PIECE
    job.clear()
