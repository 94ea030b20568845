"""Benchmark of opening a large LLaVA JSON pool: rows per second, peak memory, and a second opening,
against json.load and a loop.

The pool is synthetic: 665,000 rows (about 1 GB) with 118,000 images, like LLaVA-1.5's mixture; the
image files exist but are empty. Each opening runs in its own process. Times are those of
`open_pool`, memory is the peak of the process and its children together. The baseline reads the
whole file and visits every turn.

    python benchmarks/reading.py [--quick] [--json FILE] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from thresher.console.peak_memory import in_bytes

OPEN = """
import json, sys, time
from pathlib import Path
from thresher.pools import open_pool
start = time.perf_counter()
pool = open_pool(sys.argv[1], sys.argv[2], cache=Path(sys.argv[3]))
print(json.dumps({"seconds": time.perf_counter() - start, "rows": len(pool), "problems": len(pool.problems)}))
"""  # noqa: E501
PEER = """
import json, sys, time
start = time.perf_counter()
rows = json.load(open(sys.argv[1], encoding="utf-8"))
words = 0
for row in rows:
    for turn in row["conversations"]:
        if turn["from"] == "gpt":
            words += len(turn["value"].split())
print(json.dumps({"seconds": time.perf_counter() - start, "rows": len(rows), "words": words}))
"""
IMAGES = 118_000
WORDS = 200  # of a row


def generate(folder: Path, rows: int) -> Path:
    """Write the pool file and its empty images."""
    rng = random.Random(0)
    words = [
        "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)
    ]
    images = min(IMAGES, rows // 5)
    (folder / "images/coco/train2017").mkdir(parents=True)
    for i in range(images):
        (folder / f"images/coco/train2017/{i:012d}.jpg").touch()
    file = folder / "pool.json"
    with file.open("w", encoding="utf-8") as out:
        out.write("[")
        for i in range(rows):
            exchanges = rng.choice((1, 1, 2, 3))
            turns: list[dict[str, str]] = []
            for j in range(exchanges):
                question = " ".join(rng.choices(words, k=WORDS // 5 // exchanges))
                answer = " ".join(rng.choices(words, k=4 * WORDS // 5 // exchanges))
                turns.append({"from": "human", "value": ("<image>\n" if j == 0 else "") + question})
                turns.append({"from": "gpt", "value": answer})
            image = f"coco/train2017/{rng.randrange(images):012d}.jpg"
            record = {"id": f"{i:012d}", "image": image, "conversations": turns}
            out.write((",\n" if i else "\n") + json.dumps(record))
        out.write("\n]\n")
    return file


class Watch(threading.Thread):
    """Peak memory of a process and its children together, in bytes, sampled a hundred times per
    second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.most, self.done = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.01):
            self.most = max(self.most, sum(map(_resident, [self.pid, *_children(self.pid)])))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def run(script: str, *arguments: str) -> dict[str, Any]:
    """The JSON that the script prints, plus `memory` (bytes) and `cpu` (s, children included)."""
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE)
    watch = Watch(process.pid)
    watch.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    watch.done.set()
    watch.join()
    if status != 0:
        raise SystemExit("the process failed")
    return {
        **json.loads(output),
        "memory": max(watch.most, in_bytes(usage.ru_maxrss)),
        "cpu": usage.ru_utime + usage.ru_stime,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = arguments.rows or (100_000 if arguments.quick else 665_000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.perf_counter()
        file = generate(folder, rows)
        size = file.stat().st_size
        made = time.perf_counter() - started
        arguments = (str(file), str(folder / "images"), str(folder / "cache"))
        first, peer, second = run(OPEN, *arguments), run(PEER, str(file)), run(OPEN, *arguments)
        assert first["rows"] == peer["rows"] == second["rows"] == rows and first["problems"] == 0
    table = Table(
        title=f"{rows:,} rows, {size / 1e9:.2f} GB, {len(os.sched_getaffinity(0))} processors "
        "(made "
        f"in {made:.0f} s)"
    )
    for column in ("", "seconds", "rows/s", "CPU seconds", "peak GB"):
        table.add_column(column, justify="left" if not column else "right")
    results = []
    for name, r in (
        ("first opening", first),
        ("json.load and a loop", peer),
        ("second opening", second),
    ):
        speed = rows / r["seconds"]
        table.add_row(
            name,
            f"{r['seconds']:.1f}",
            f"{speed:,.0f}",
            f"{r['cpu']:.1f}",
            f"{r['memory'] / 1e9:.2f}",
        )
        results.append({"name": name, "rows": rows, "bytes": size, "rows_per_second": speed, **r})
    Console(width=110).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
