"""`compare --engine ray` on a real cluster: the same table as in one process, also where a worker
or the command is killed. Skipped without the extra `ray`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compare.shared_comparison import Computed
from tests.ray_nodes import environment, two_nodes
from tests.text_pools import record, write_pool

pytest.importorskip("trl")
pytest.importorskip("ray", reason="ray is not installed (the extra `ray`)")
pytestmark = pytest.mark.slow
WAIT = 600.0
CELLS = 6  # random, clipper and the full pool, two seeds


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


class Job(Computed):
    """A comparison with the built-in model."""

    def __init__(self, folder: Path, address: str | None) -> None:
        super().__init__(folder)
        folder.mkdir()
        self.address = address
        write_pool(folder / "pool.json", [record(i) for i in range(200)])
        write_pool(folder / "test.json", [record(i) for i in range(1000, 1060)])

    def start(self) -> subprocess.Popen[str]:
        command = "compare pool.json --eval test.json -m clipper -b 20% --seeds 2 --model demo"
        words = [*command.split(), "--epochs", "4", "--store", "store", "-o", "out"]
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
        assert not list((self.folder / "out/cells/claims").glob("*.claim"))
        return err

    def wait_for_cells(self, cells: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + WAIT
        while len(self.finished()) < cells and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)


def workers() -> list[int]:
    """The processes of actors that compute cells."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::CellActor" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has just ended
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    job = Job(tmp_path_factory.mktemp("local") / "job", None)
    job.end(job.start())
    return job.written()


def test_the_same_table_as_without_ray(cluster: Any, alone: str, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", cluster.address)
    err = job.end(job.start())
    assert job.written() == alone and len(job.finished()) == CELLS
    assert f"of {CELLS}: " in err and "(worker 2 on " in err
    assert "Computed by worker 1 on " in err and "died" not in err
    err = job.end(job.start())  # nothing is left: no worker starts
    assert job.written() == alone and "worker" not in err


def test_a_killed_worker_is_replaced(cluster: Any, alone: str, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", cluster.address)
    process = job.start()
    job.wait_for_cells(2, process)
    os.kill(workers()[0], signal.SIGKILL)
    err = job.end(process)
    assert "died and is replaced; another worker continues its cell." in err, err
    assert job.written() == alone


def test_the_command_is_killed_and_resumes(cluster: Any, alone: str, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", cluster.address)
    first = job.start()
    job.wait_for_cells(2, first)
    first.kill()
    first.communicate()
    deadline = time.monotonic() + WAIT
    while workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not workers()  # they end with the command
    before = {p.name: p.stat().st_mtime_ns for p in (job.folder / "out/cells").glob("*.json")}
    assert len(before) < CELLS
    job.end(job.start())
    assert job.written() == alone
    for name, when in before.items():
        assert (job.folder / "out/cells" / name).stat().st_mtime_ns == when, "computed again"
