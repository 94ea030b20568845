"""The proof on photographs: every method against random on four pools of real rows.

    make real-proof     or      python -m benchmarks.real.proof [--out DIR] [--data DIR]

Needs the base of `make real-base`. Computes missing cells, each pool in a process of one thread,
two at a time; then the suspects of the mixed pool; then writes the page from the finished cells. It
can be interrupted at any time; the same command resumes. Run `python -m benchmarks.real.gate`
first: it says whether the base can carry the comparison at all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thresher.backends.hf.threads import limit_idle_threads

limit_idle_threads()

from benchmarks.real import arms, suspects  # noqa: E402
from benchmarks.real.places import ROOT  # noqa: E402
from benchmarks.real.pools import POOLS  # noqa: E402
from benchmarks.real.report import write_page  # noqa: E402
from benchmarks.real.work import options, world_of  # noqa: E402


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pools", default=",".join(POOLS))
    parser.add_argument("--stages", default=",".join(s.name for s in arms.STAGES))
    parser.add_argument("--page", type=Path, help="default: real.md below --out")
    parser.add_argument("--report-only", action="store_true", help="compute nothing")
    a = parser.parse_args()
    world = world_of(a)
    pools = a.pools.split(",")
    if unknown := [p for p in pools if p not in POOLS]:
        sys.exit(f"--pools: {', '.join(unknown)} is not one of {', '.join(POOLS)}.")
    a.stages = tuple(s.name for s in arms.stages_at(a.budgets) if s.name in a.stages.split(","))
    failed = 0
    if not a.report_only:
        with ThreadPoolExecutor(a.workers) as workers:
            failed = sum(workers.map(lambda pool: run_stages(a, pool, a.stages), pools))
        if "mixed" in pools:
            suspects.measure(a, world)
    page = a.page or a.out / "real.md"
    write_page(page, a, world, pools)
    print(f"Written to {page}")
    if failed:
        sys.exit(f"{failed} parts failed; the same command resumes where they stopped.")


def run_stages(a: argparse.Namespace, pool: str, stages: Sequence[str]) -> int:
    """The stages of one pool, one after the other; returns how many failed."""
    failed = 0
    for stage in stages:
        command = [sys.executable, "-m", "benchmarks.real.work", "--pool", pool, "--stage", stage]
        command += ["--out", str(a.out), "--data", str(a.data), "--base", str(a.base)]
        command += ["--half", a.half, "--seeds", str(a.seeds), "--precision", a.precision]
        command += ["--methods", ",".join(a.methods)] if a.methods else []
        command += ["--budgets", ",".join(a.budgets)] if a.budgets else []
        for name, value in (("--rows", a.rows), ("--questions", a.questions)):
            command += [name, str(value)] if value is not None else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        failed += subprocess.run(command, cwd=ROOT, env=environment).returncode != 0
    return failed


if __name__ == "__main__":
    main()
