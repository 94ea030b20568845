"""Benchmark of `thresher select` on a large pool: time and peak memory of whole processes after the
first opening.

The pool is synthetic: text-only LLaVA rows from 100 sources. The baseline is the naive script:
json.load, select, json.dump.

    python benchmarks/million.py [--quick] [--json FILE] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from thresher.console.peak_memory import in_bytes

NAIVE = """
import json, random, sys
rows = json.load(open(sys.argv[1]))
if sys.argv[2] == "random":
    kept = random.Random(0).sample(range(len(rows)), len(rows) // 10)
elif sys.argv[2] == "length":
    words = [sum(len(t["value"].split()) for t in r["conversations"] if t["from"] == "gpt") for r in rows]
    kept = sorted(range(len(rows)), key=lambda i: -words[i])[: len(rows) // 10]
else:
    groups = {}
    for i, r in enumerate(rows):
        groups.setdefault(r["data_source"], []).append(i)
    kept = [i for g in groups.values() for i in random.Random(0).sample(g, len(g) // 10)]
json.dump([rows[i] for i in sorted(kept)], open(sys.argv[3], "w"))
"""  # noqa: E501


def generate(path: Path, rows: int) -> None:
    rng = random.Random(0)
    words = [f"word{i}" for i in range(5000)]
    with path.open("w") as f:
        f.write("[\n")
        for i in range(rows):
            question = " ".join(rng.choices(words, k=10))
            answer = " ".join(rng.choices(words, k=rng.randint(1, 25)))
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            record = {
                "id": f"row_{i}",
                "data_source": f"source_{i * 7919 % 100}",
                "conversations": turns,
            }
            f.write(json.dumps(record) + (",\n" if i < rows - 1 else "\n"))
        f.write("]\n")


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time (s) and peak memory (GB) of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        assert process.stderr is not None
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr.read().decode()}")
    return time.perf_counter() - start, in_bytes(usage.ru_maxrss) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = arguments.rows or (100_000 if arguments.quick else 1_000_000)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pool = folder / "pool.json"
        generate(pool, rows)
        environment = {**os.environ, "THRESHER_STORE": str(folder / "store")}
        table = Table(
            title=f"{rows:,} text-only rows ({pool.stat().st_size / 1e6:,.0f} MB), 10% kept, whole "
            "processes"
        )
        for column in ("", "thresher s", "naive s", "ratio", "thresher GB", "naive GB"):
            table.add_column(column, justify="left" if not column else "right")
        thresher = [
            sys.executable,
            "-m",
            "thresher",
            "select",
            str(pool),
            "--budget",
            "10%",
            "--out",
            str(folder / "out"),
        ]
        first, _ = run([*thresher, "--method", "random"], environment)
        for method in ("random", "length", "stratified"):
            ours, memory = run([*thresher, "--method", method], environment)
            naive = [sys.executable, "-c", NAIVE, str(pool), method, str(folder / "naive.json")]
            peer, peer_memory = run(naive, environment)
            table.add_row(
                method,
                f"{ours:.1f}",
                f"{peer:.1f}",
                f"{peer / ours:.1f}x",
                f"{memory:.2f}",
                f"{peer_memory:.2f}",
            )
            results += [
                {
                    "name": f"{method}: seconds",
                    "ours": ours,
                    "peer": peer,
                    "ratio": peer / ours,
                    "unit": "s",
                },
                {
                    "name": f"{method}: memory",
                    "ours": memory,
                    "peer": peer_memory,
                    "ratio": peer_memory / memory,
                    "unit": "GB",
                },
            ]
        table.caption = (
            f"The first opening, which reads and digests the file, took {first:.1f} s with its "
            "selection."
        )
    Console(width=110).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
