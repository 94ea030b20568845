"""Benchmark of several `select` processes on one store against one, with a backend that sleeps for
every row.

The processes import everything first and then start together. Lower ratios are better; 0.5 is the
optimum for two processes.

    python benchmarks/sharing.py [--rows N] [--rate R] [--processes P ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOB = """
import sys
from pathlib import Path
from thresher.engine import RunContext
from thresher.selection import select as run
from thresher.selection.task import SelectionTask
from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY, FakeBackend
from thresher.methods import load
from thresher.pools import open_pool
from thresher.storage.columns import Store
from thresher.types import Budget
pool_file, store, rate = Path(sys.argv[1]), Store(sys.argv[2]), float(sys.argv[3])
pool = open_pool(pool_file)
handle = ModelHandle("sleeps", IDENTITY, lambda: FakeBackend(seconds_per_row=1 / rate, piece=4))
print("ready", flush=True)
sys.stdin.readline()
task = SelectionTask(pool, load("perplexity", {}), Budget.parse("10%"))
outcome = run.select(task, RunContext(store, handle))
print([(s.needed, s.scored, s.elsewhere) for s in outcome.signals])
"""


def seconds(pool: Path, store: Path, rate: float, processes: int) -> tuple[float, list[str]]:
    command = [sys.executable, "-c", JOB, str(pool), str(store), str(rate)]
    many = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in many:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in many:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    counts = [process.communicate()[0].strip() for process in many]
    return time.perf_counter() - began, counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=50.0, help="rows a second of one process")
    parser.add_argument("--processes", type=int, nargs="*", default=[2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thresher-sharing-") as name:
        pool = Path(name) / "pool.json"
        turns = [{"from": "human", "value": "What is {}?"}, {"from": "gpt", "value": "A number."}]
        rows = [
            {"id": i, "conversations": json.loads(json.dumps(turns).replace("{}", str(i)))}
            for i in range(arguments.rows)
        ]
        pool.write_text(json.dumps(rows))
        one, _ = seconds(pool, Path(name) / "one", arguments.rate, 1)
        print(f"one process: {one:.1f} s")
        for n in arguments.processes:
            several, counts = seconds(pool, Path(name) / f"store{n}", arguments.rate, n)
            print(
                f"{n} processes: {several:.1f} s, {several / one:.0%} of one; (needed, here, "
                f"elsewhere): {'; '.join(counts)}"
            )


if __name__ == "__main__":
    main()
