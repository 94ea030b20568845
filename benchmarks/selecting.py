"""What selecting with winnow costs compared with perplexity: whole processes, in pairs.

    python -m benchmarks.selecting --easy-vqa FOLDER [--rows 2000] [--pairs 5]

FOLDER contains train.json and images/. Each run has a new store; the first pair only warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

WINNOW = ("winnow", "--set", "guard=off", "trust=base")
PERPLEXITY = ("perplexity",)


def seconds(method: Sequence[str], pool: Path, images: Path) -> tuple[float, float]:
    """(CPU, wall) of one `thresher select` with a new store."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "thresher", "select", str(pool), "--images", str(images)]
        command += ["-b", "30%", "--model", "demo", "--store", f"{folder}/store"]
        command += ["-o", f"{folder}/out", "--method", *method]
        before, began = os.times(), time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        after, ended = os.times(), time.monotonic()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system, ended - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--easy-vqa", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    a = parser.parse_args()
    images = (a.easy_vqa / "images").resolve()
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.json"
        records = json.loads((a.easy_vqa / "train.json").read_text("utf-8"))
        pool.write_text(json.dumps(records[: a.rows]), "utf-8")
        pairs = [
            (seconds(WINNOW, pool, images), seconds(PERPLEXITY, pool, images))
            for _ in range(a.pairs + 1)
        ][1:]
    print("| | winnow, no guard, trust=base | perplexity | ratio of pairs, median (range) |")
    print("|---|---:|---:|---:|")
    for i, name in enumerate(("CPU time, median", "wall time, median")):
        ours, theirs = [w[i] for w, _ in pairs], [p[i] for _, p in pairs]
        ratios = sorted(x / y for x, y in zip(ours, theirs, strict=True))
        print(
            f"| {name} | {median(ours):.1f} s | {median(theirs):.1f} s | {median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )


if __name__ == "__main__":
    main()
