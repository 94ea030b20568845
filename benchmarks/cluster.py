"""Ray workers on several hosts: four against one, and what is lost if workers, the command or a
raylet are killed at random moments.

The hosts are network namespaces of this machine (`benchmarks.hosts`), and the model sleeps for
every row. Each run is compared with the same selection without Ray: the files of the selection have
to be the same bytes, and the store has to hold every row once. Times are from the first row's
beginning to the last row's end. Needs root, iproute2 and the extra `ray`.

    python -m benchmarks.cluster [--rows 600] [--seconds 0.2] [--kills 10] [--seed 0] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from benchmarks import sleeping_adapter
from benchmarks.hosts import ENVIRONMENT, Hosts, hosts
from benchmarks.workers import ADAPTER, ROOT, write_pool

WORKERS = 4
FILES = ("subset.json", "selection.parquet", "evidence.parquet")
WAIT = 900.0


@dataclass
class Job:
    """A selection from the pool in `folder`, with a model and a store of its own."""

    folder: Path
    name: str
    on: Hosts | None  # None: without Ray
    workers: int

    @property
    def model(self) -> Path:
        return self.folder / self.name / "model"

    def prepare(self, seconds: float) -> None:
        """Write the model. `seconds`: that a row takes."""
        sleeping_adapter.write_model(self.model, seconds, self.workers)

    def start(self) -> subprocess.Popen[str]:
        """Start the command, on the head."""
        place = self.folder / self.name
        words = f"-m thresher select pool.json -m perplexity -b 10% --adapter {ADAPTER}".split()
        words += ["--model", str(self.model), "--store", str(place / "store")]
        words += ["-o", str(place / "out")]
        command = [sys.executable, *words]
        if self.on is not None:
            command += ["--engine", "ray", "--ray-address", self.on.address]
            command += ["--ray-workers", str(self.workers)]
            command = self.on.command(self.on.names[0], self.folder, command)
        paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def scored(self) -> list[str]:
        """The rows that the model was asked about."""
        return [row["row"] for row in sleeping_adapter.scored_rows(self.model)]

    def took(self) -> float:
        """Seconds from the first row to the last."""
        rows = sleeping_adapter.scored_rows(self.model)
        return float(max(r["ended"] for r in rows) - min(r["began"] for r in rows))

    def running(self) -> list[int]:
        """The living processes that have opened the model."""
        return [pid for pid in sleeping_adapter.processes(self.model) if lives(pid)]

    def wait_for(self, rows: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many rows are scored."""
        end = time.monotonic() + WAIT
        while len(set(self.scored())) < rows:
            if process.poll() is not None:
                raise SystemExit(f"{self.name} ended early:\n{process.communicate()[1]}")
            if time.monotonic() > end:
                raise SystemExit(f"{self.name} did not score {rows} rows")
            time.sleep(0.1)

    def result(self) -> tuple[dict[str, bytes], list[str]]:
        """The selection's files, and the rows of the column in the store, sorted."""
        place = self.folder / self.name
        rows = [
            repr(row)
            for part in (place / "store/columns").glob("*/part-*.parquet")
            for row in pq.read_table(part).to_pylist()
        ]
        return {f: (place / "out" / f).read_bytes() for f in FILES}, sorted(rows)


def lives(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def finish(process: subprocess.Popen[str]) -> str:
    """What the command wrote to stderr, once it has ended well."""
    error = process.communicate(timeout=WAIT)[1]
    if process.returncode:
        raise SystemExit(error)
    return error


def undisturbed(job: Job, rows: int, moments: random.Random) -> str:
    """No kill."""
    finish(job.start())
    return "nothing"


class Kills:
    """Kills of so many workers, one after the other.

    Arguments:
        number: how many.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, job: Job, rows: int, moments: random.Random) -> str:
        process, killed = job.start(), 0
        for at in sorted(moments.sample(range(1, rows - rows // 8), self.number)):
            job.wait_for(at, process)
            while not (living := job.running()):  # the last kill's worker is being replaced
                time.sleep(0.1)
            os.kill(moments.choice(living), signal.SIGKILL)
            killed += 1
        error = finish(process)
        assert error.count("died and is replaced") == killed, error
        return f"{killed} workers"


def kill_command(job: Job, rows: int, moments: random.Random) -> str:
    """The command is killed, and repeated once its workers have ended."""
    process = job.start()
    job.wait_for(moments.randrange(rows // 4, 3 * rows // 4), process)
    process.kill()
    process.communicate()
    while job.running():
        time.sleep(0.2)
    finish(job.start())
    return "the command"


def kill_raylet(job: Job, rows: int, moments: random.Random) -> str:
    """The raylet of a host that has a worker is killed; the host is lost."""
    assert job.on is not None
    process = job.start()
    job.wait_for(moments.randrange(rows // 4, 3 * rows // 4), process)
    with_worker = [h for h in job.on.names[1:] if set(job.on.processes(h)) & set(job.running())]
    for pid in job.on.raylets(moments.choice(with_worker)):
        os.kill(pid, signal.SIGKILL)
    error = finish(process)
    assert "died and is replaced" in error, error
    return "a raylet"


Case = tuple[str, int, Callable[[Job, int, random.Random], str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=0.2, help="that a row takes")
    parser.add_argument("--kills", type=int, default=10, help="of workers")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="for pool and stores; default: a temporary one")
    a = parser.parse_args()
    cases: list[Case] = [
        ("one", 1, undisturbed),
        ("four", WORKERS, undisturbed),
        ("workers-killed", WORKERS, Kills(a.kills)),
        ("command-killed", WORKERS, kill_command),
        ("raylet-killed", WORKERS, kill_raylet),  # last: the cluster has lost a host
    ]
    with tempfile.TemporaryDirectory(dir=a.folder) as name:
        folder = Path(name)
        write_pool(folder / "pool.json", a.rows)
        shutil.copy(sleeping_adapter.__file__, folder)
        local = Job(folder, "local", None, 1)
        local.prepare(0.0)
        finish(local.start())
        expected = local.result()
        print("| killed | workers | s | rows scored twice | files | store |")
        print("|---|---:|---:|---:|---|---|")
        with hosts(WORKERS) as on:
            for case, workers, run in cases:
                job = Job(folder, case, on, workers)
                job.prepare(a.seconds)
                killed = run(job, a.rows, random.Random(f"{a.seed} {case}"))
                files, rows = job.result()
                twice = sum(n > 1 for n in Counter(job.scored()).values())
                same = "same bytes" if files == expected[0] else "DIFFERENT"
                once = "every row once" if rows == expected[1] else "DIFFERENT"
                took = f"{job.took():.1f}"
                print(f"| {killed} | {workers} | {took} | {twice} | {same} | {once} |", flush=True)


if __name__ == "__main__":
    main()
