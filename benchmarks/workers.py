"""Benchmark of four workers against one, with a model that sleeps for every row: as workers on Ray,
and as independent processes of the command on one store.

Sleeping needs no CPU, so that this measures how well rows are divided, on any machine. All
processes open the model before any of them scores; the time is from the first row's beginning to
the last row's end. Larger ratios are better; 4 is the optimum. On a busy machine one process may
sleep longer than it should: the second ratio is against the time that all rows sleep together.

    python -m benchmarks.workers [--rows N] [--seconds S] [--workers W] [--engines ray processes]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import sleeping_adapter
from benchmarks.sleeping_adapter import scored_rows, write_model

ADAPTER = "sleeping_adapter:SleepingAdapter"  # in the working directory
ROOT = Path(__file__).parents[1]
ENGINES = ("processes", "ray")


def write_pool(file: Path, rows: int) -> None:
    """Questions about numbers, with answers of different lengths."""
    records = [
        {
            "id": i,
            "conversations": [
                {"from": "human", "value": f"What is {i}?"},
                {"from": "gpt", "value": "A number" + ", and so on" * (i % 9) + "."},
            ],
        }
        for i in range(rows)
    ]
    file.write_text(json.dumps(records))


def run(folder: Path, engine: str, workers: int, seconds: float) -> float:
    """Seconds from the first row to the last.

    Arguments:
        folder: with the pool; a folder of this run is created in it.
        engine: of `ENGINES`.
        workers: number of processes that score.
        seconds: that a row takes.
    """
    place = folder / f"{engine}{workers}"
    write_model(place / "model", seconds, workers)
    words = f"select {folder}/pool.json -m perplexity -b 10% --adapter {ADAPTER}".split()
    words += ["--model", str(place / "model"), "--store", str(place / "store")]
    words += ["-o", str(place / "out")]
    if engine == "ray":
        words += ["--engine", "ray", "--ray-address", "local", "--ray-workers", str(workers)]
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "thresher", *words]
    processes = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(1 if engine == "ray" else workers)
    ]
    for process in processes:
        error = process.communicate()[1]
        if process.returncode:
            raise SystemExit(error)
    rows = scored_rows(place / "model")
    times = Counter(row["row"] for row in rows)
    twice = sum(n > 1 for n in times.values())
    logs = sorted((place / "model/log").glob("rows-*"))
    shares = sorted(len(log.read_text().splitlines()) for log in logs)
    took = max(row["ended"] for row in rows) - min(row["began"] for row in rows)
    print(f"{engine}, {workers}: {took:.1f} s, rows of each: {shares}, scored twice: {twice}")
    return float(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=0.2, help="that a row takes")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=list(ENGINES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thresher-workers-") as name:
        folder = Path(name)
        write_pool(folder / "pool.json", arguments.rows)
        shutil.copy(sleeping_adapter.__file__, folder)
        for engine in arguments.engines:
            one = run(folder, engine, 1, arguments.seconds)
            several = run(folder, engine, arguments.workers, arguments.seconds)
            alone = arguments.rows * arguments.seconds  # of a process that only sleeps
            print(
                f"{engine}: {arguments.workers} workers are {one / several:.2f} times as fast as "
                f"one, and {alone / several:.2f} times as fast as sleeping alone"
            )


if __name__ == "__main__":
    main()
