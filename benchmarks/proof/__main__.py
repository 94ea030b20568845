"""The proof: compares every method with random on three pools with known flaws and a clean one.

    make proof        or        python -m benchmarks.proof [--out DIR] [--workers 2] [--report DIR]

Computes missing cells (each pool in its own single-threaded process), then writes the pages from
the finished ones. `--rows`, `--per-kind`, `--seeds` override the sizes of setup.py; `--pools` and
`--stages` restrict the work; `--report-only` computes no cells. A page is written only if one of
its stages was asked for: proof.md from the older methods, winnow.md from winnow, visnec and dics,
winnow_parts.md from the parts of winnow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

from benchmarks.proof import extras, setup, stages  # noqa: E402
from benchmarks.proof.pages import write_pages  # noqa: E402
from benchmarks.proof.work import add_sizes, sizes_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


class Queue:
    """Queue of tasks (stage, pool), stage by stage; never two at once for the same pool, since they
    share its store."""

    def __init__(self, pools: Sequence[str], chosen: Sequence[str]) -> None:
        every = [(s.name, p) for s in stages.STAGES for p in pools if p in s.pools]
        self._tasks = [task for task in every if task[0] in chosen]
        self._busy: dict[str, bool] = {}
        self._free = threading.Condition()

    def take(self) -> tuple[str, str] | None:
        with self._free:
            while self._tasks:
                for task in self._tasks:
                    if not self._busy.get(task[1]):
                        self._tasks.remove(task)
                        self._busy[task[1]] = True
                        return task
                self._free.wait()
            return None

    def done(self, pool: str) -> None:
        with self._free:
            self._busy[pool] = False
            self._free.notify_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add_sizes(parser)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pools", default=",".join(setup.POOLS))
    parser.add_argument("--stages", default=",".join(s.name for s in stages.STAGES))
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--report-only", action="store_true")
    a = parser.parse_args()
    sizes, pools, chosen = sizes_of(a), tuple(a.pools.split(",")), tuple(a.stages.split(","))
    setup.make_world(setup.world_folder(a.out, sizes), sizes, pools)
    if not a.report_only:
        queue = Queue(pools, chosen)
        with ThreadPoolExecutor(a.workers) as workers:
            failed = [
                code
                for done in [workers.submit(drain, queue, a) for _ in range(a.workers)]
                for code in done.result()
            ]
        if {*chosen} & {*stages.of_page("proof")}:
            extras.untuned(a.out, sizes, a.model)
            extras.demonstrations(a.out, a.model)
            for name in stages.pools_of("proof", pools):
                extras.shuffled(a.out, sizes, a.model, name)
        if any(failed):
            sys.exit(
                f"{sum(map(bool, failed))} of the parts failed; the same command resumes where "
                "they stopped."
            )
    for file in write_pages(a.report, a.out, pools, chosen, sizes, a.model):
        print(f"Written to {file}")


def drain(queue: Queue, a: argparse.Namespace) -> list[int]:
    """Run tasks until none is left; returns their exit codes."""
    codes = []
    while (task := queue.take()) is not None:
        stage, pool = task
        command = [sys.executable, "-m", "benchmarks.proof.work", "--stage", stage, "--pool", pool]
        command += ["--out", str(a.out.resolve()), "--model", a.model]
        for flag, value in (("--rows", a.rows), ("--per-kind", a.per_kind), ("--seeds", a.seeds)):
            command += [flag, str(value)] if value is not None else []
        codes.append(
            subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode
        )
        queue.done(pool)
    return codes


if __name__ == "__main__":
    main()
