"""`thresher plan` against what the same `select` then takes: time of scoring and training, and peak
memory, with an empty store.

Rows are drawn at random from easy_vqa and NLVR. Each command runs in a process of its own; the
numbers are those that `select` writes into run.yaml. With `--clock cpu`, times are CPU seconds of
the process (all its threads together), in the plan and in the run: on a machine that is busy with
other work, wall times compare the moments and not the estimate with the truth.

    python benchmarks/plan_truth.py [--rows N] [--model M] [--clock wall|cpu] [--json FILE]
        [--pool NAME FILE IMAGES]... [METHOD[:KEY=VALUE]...]...
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
METHODS = ("perplexity", "clipper", "visnec", "winnow:guard=off")
TIME_BOUND, MEMORY_BOUND = 0.25, 0.15  # the prediction is to be this close to the truth

# a process whose clock counts its own CPU time
CPU_CLOCK = """
import sys, time
if sys.argv.pop(1) == "cpu":
    time.perf_counter = time.monotonic = time.process_time
from thresher.cli import main
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Compared:
    """One run. Seconds of scoring and training; bytes of the process, or of the GPU."""

    pool: str
    method: str
    scores: int
    predicted_scores: int
    predicted_seconds: float
    measured_seconds: float
    whole_seconds: float  # of the selection, with opening the model
    predicted_bytes: int
    measured_bytes: int

    @property
    def time_ratio(self) -> float:
        return self.predicted_seconds / self.measured_seconds

    @property
    def memory_ratio(self) -> float:
        return self.predicted_bytes / self.measured_bytes


def sample(file: Path, rows: int, out: Path) -> Path:
    """Write a random sample of a LLaVA file (seed 0).

    Arguments:
        file: the pool.
        rows: how many.
        out: the file to write.
    """
    records = json.loads(file.read_text("utf-8"))
    random.Random(0).shuffle(records)
    out.write_text(json.dumps(records[:rows]), "utf-8")
    return out


def compare(
    name: str, pool: Path, images: Path, method: str, model: str, clock: str, folder: Path
) -> Compared:
    """Plan and run one selection with an empty store.

    Arguments:
        name: of the pool, for the table.
        pool: its file.
        images: its image folder.
        method: name, and settings as `:KEY=VALUE`.
        model: as `--model`.
        clock: "wall" or "cpu".
        folder: for the store and the output; removed afterwards.
    """
    kind, *settings = method.split(":")
    words = [str(pool), "--images", str(images), "-m", kind, "-b", "30%", "--model", model]
    words += ["--store", str(folder / "store"), *(w for s in settings for w in ("--set", s))]
    _run(clock, "plan", *words)
    _run(clock, "select", *words, "-o", str(folder / "out"))
    cost = yaml.safe_load((folder / "out" / "run.yaml").read_text("utf-8"))["cost"]
    shutil.rmtree(folder)
    predicted, measured = cost["predicted"], cost["measured"]
    if measured["scores"] > predicted["scores"]:  # the scores called for more
        predicted = predicted.get("at_most", predicted)
    return Compared(
        name,
        method,
        measured["scores"],
        predicted["scores"],
        predicted["scoring_seconds"] + (predicted["training_seconds"] or 0),
        measured["scoring_seconds"] + measured["training_seconds"],
        measured["seconds"],
        predicted["peak_bytes"],
        measured["peak_bytes"],
    )


def _run(clock: str, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", CPU_CLOCK, clock, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"thresher {' '.join(words)} failed:\n{done.stderr}")


def table(found: list[Compared]) -> str:
    """The results as Markdown."""
    lines = [
        "| pool | method | scores: plan | run | seconds: plan | run | ratio | MiB: plan | run "
        "| ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for c in found:
        lines.append(
            f"| {c.pool} | `{c.method}` | {c.predicted_scores:,} | {c.scores:,} "
            f"| {c.predicted_seconds:.2f} | {c.measured_seconds:.2f} | {c.time_ratio:.2f} "
            f"| {c.predicted_bytes / 2**20:,.0f} | {c.measured_bytes / 2**20:,.0f} "
            f"| {c.memory_ratio:.2f} |"
        )
    near = sum(abs(c.time_ratio - 1) <= TIME_BOUND for c in found)
    inside = sum(abs(c.memory_ratio - 1) <= MEMORY_BOUND for c in found)
    return "\n".join(
        [
            *lines,
            "",
            f"Within {TIME_BOUND:.0%} of the truth for time: {near} of {len(found)}; within "
            f"{MEMORY_BOUND:.0%} for memory: {inside} of {len(found)}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", default=METHODS, metavar="METHOD[:KEY=VALUE]")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--pool", nargs=3, action="append", metavar=("NAME", "FILE", "IMAGES"), default=[]
    )
    given = parser.parse_args()
    pools = given.pool or [
        ("easy_vqa", DATA / "easy_vqa" / "train.json", DATA / "easy_vqa" / "images"),
        ("NLVR", DATA / "nlvr" / "dev.json", DATA / "nlvr" / "images"),
    ]
    if missing := [str(file) for _, file, _ in pools if not Path(file).is_file()]:
        raise SystemExit(f"No such file: {', '.join(missing)}. Name pools with --pool.")
    found: list[Compared] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, file, images in pools:
            pool = sample(Path(file), given.rows, Path(scratch) / f"{name}.json")
            for method in given.methods:
                found.append(
                    compare(
                        name,
                        pool,
                        Path(images),
                        method,
                        given.model,
                        given.clock,
                        Path(scratch) / "run",
                    )
                )
                print(found[-1], file=sys.stderr, flush=True)
    print(f"{given.rows} rows, --model {given.model}, {given.clock} seconds, {_machine()}\n")
    print(table(found))
    if given.json:
        plain: list[dict[str, Any]] = [asdict(c) for c in found]
        given.json.write_text(json.dumps(plain, indent=1))


def _machine() -> str:
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores ({platform.machine()}), {gpu}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
