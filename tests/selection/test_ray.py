"""`--engine ray` on a real cluster: the same bytes as without it, also where workers, nodes or the
command itself are killed. Skipped without the extra `ray`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmarks import sleeping_adapter

from tests.ray_nodes import environment, two_nodes
from tests.text_pools import record, write_pool

pytest.importorskip("torch")
pytest.importorskip("ray", reason="ray is not installed (the extra `ray`)")
pytestmark = pytest.mark.slow
ROWS, SECONDS = 400, 0.05
FILES = ("subset.json", "selection.parquet", "evidence.parquet")
WAIT = 600.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


class Job:
    """A pool, a model that sleeps, and the command that selects from it."""

    def __init__(self, folder: Path, address: str | None) -> None:
        folder.mkdir()
        self.folder, self.address = folder, address
        write_pool(folder / "pool.json", [record(i) for i in range(ROWS)])
        shutil.copy(sleeping_adapter.__file__, folder)
        sleeping_adapter.write_model(folder / "model", SECONDS)

    def start(self) -> subprocess.Popen[str]:
        adapter = "sleeping_adapter:SleepingAdapter"  # in the working directory
        command = f"select pool.json -m perplexity -b 10% --model model --adapter {adapter}"
        words = [*command.split(), "--store", "store", "-o", "out"]
        if self.address is not None:
            words += ["--engine", "ray", "--ray-address", self.address, "--ray-workers", "2"]
        return subprocess.Popen(
            [sys.executable, "-m", "thresher", *words],
            cwd=self.folder,
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> str:
        """Waits until it has ended well; what it wrote to stderr."""
        _, err = process.communicate(timeout=WAIT)
        assert process.returncode == 0, err
        return err

    def files(self) -> dict[str, bytes]:
        return {name: (self.folder / "out" / name).read_bytes() for name in FILES}

    def scored(self) -> list[str]:
        """The rows that the model was asked about."""
        return [line["row"] for line in sleeping_adapter.scored_rows(self.folder / "model")]

    def workers(self) -> list[int]:
        """The living processes that have opened the model."""
        return [
            pid
            for pid in sleeping_adapter.processes(self.folder / "model")
            if Path(f"/proc/{pid}").exists()
        ]

    def wait_for_rows(self, rows: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + WAIT
        while len(set(self.scored())) < rows and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)

    def columns(self) -> list[tuple[object, ...]]:
        """The rows of all columns in the store, sorted by key."""
        found = []
        for part in sorted((self.folder / "store/columns").glob("*/part-*.parquet")):
            for row in pq.read_table(part).to_pylist():
                found.append((part.parent.name, *row.values()))
        return sorted(found, key=repr)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The same selection, made without Ray."""
    job = Job(tmp_path_factory.mktemp("local") / "job", None)
    job.end(job.start())
    return job


def check(job: Job, local: Job, kills: int) -> None:
    """Nothing is lost or doubled in the store; `kills`: of workers or of the command."""
    assert job.files() == local.files()
    assert job.columns() == local.columns()
    times = Counter(job.scored())
    assert len(times) == ROWS
    if not kills:
        assert set(times.values()) == {1}
    assert not list((job.folder / "store/claims").glob("*.claim"))


def test_the_same_bytes_as_without_ray(cluster: Any, local: Job, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", cluster.address)
    err = job.end(job.start())
    check(job, local, 0)
    assert "Scored by worker 1 on " in err and "worker 2 on " in err
    shares = Counter(len(x.read_text().splitlines()) for x in (job.folder / "model/log").glob("r*"))
    assert len(list(shares.elements())) == 2 and min(shares) > 20, shares
    err = job.end(job.start())  # nothing is left to score: no worker starts
    assert len(job.scored()) == ROWS and job.files() == local.files() and "worker" not in err


def test_killed_workers_are_replaced(cluster: Any, local: Job, tmp_path: Path) -> None:
    job, moments = Job(tmp_path / "job", cluster.address), random.Random(os.urandom(8))
    process = job.start()
    kills = 0
    for rows in sorted(moments.sample(range(10, ROWS - 60), 5)):
        job.wait_for_rows(rows, process)
        if workers := job.workers():
            os.kill(moments.choice(workers), signal.SIGKILL)
            kills += 1
    err = job.end(process)
    assert kills >= 3 and err.count("died and is replaced") == kills, err
    check(job, local, kills)


def test_the_command_is_killed_and_resumes(cluster: Any, local: Job, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", cluster.address)
    first = job.start()
    job.wait_for_rows(ROWS // 2, first)
    first.kill()
    first.communicate()
    deadline = time.monotonic() + WAIT
    while job.workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not job.workers()  # they end with the command
    job.end(job.start())
    check(job, local, 1)


def test_ctrl_c_stores_what_workers_have_scored(cluster: Any, local: Job, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", cluster.address)
    first = job.start()
    job.wait_for_rows(ROWS // 4, first)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=WAIT)
    assert first.returncode == 130
    scored = len(job.scored())
    assert len(job.columns()) >= scored - 2  # the row that each of them was at
    job.end(job.start())
    check(job, local, 0)


def test_a_killed_raylet_is_done_without(cluster: Any, local: Job, tmp_path: Path) -> None:
    """The last test: the cluster has one node afterwards."""
    job = Job(tmp_path / "job", cluster.address)
    process = job.start()
    job.wait_for_rows(ROWS // 4, process)
    cluster.remove_node(cluster.second, allow_graceful=False)  # SIGKILL of all its processes
    err = job.end(process)
    assert "died and is replaced" in err, err
    check(job, local, 1)
