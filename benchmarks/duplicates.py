"""Benchmark of near-duplicate detection in a large pool: time, peak memory and recall.

The pool is synthetic: text rows with LLaVA's lengths (questions of 10, answers of 20 to 120 words,
word frequencies by Zipf's law), one in twenty a near copy of another with a few words changed.
Measures a whole `thresher select --dedup near` process. The baseline is datasketch's MinHash and
MinHashLSH (128 permutations) on part of the rows.

    python benchmarks/duplicates.py [--quick] [--json FILE] [--rows N]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from thresher.console.peak_memory import in_bytes

WORDS = 30_000
COPIES = 20  # one row in 20 is a copy
PEER_ROWS = 5_000
SIMILAR = 0.8  # what counts as near: see duplicates/near.py


def generate(path: Path, rows: int) -> tuple[dict[int, int], set[int]]:
    """(copy -> original for pairs with a similarity of at least SIMILAR; rows that are or have
    copies)."""
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(WORDS)]
    weights = list(itertools.accumulate(1 / (i + 1) for i in range(WORDS)))
    rows_so_far: list[tuple[str, list[str]]] = []
    copies: dict[int, int] = {}
    related: set[int] = set()
    with path.open("w") as f:
        for i in range(rows):
            if i % COPIES == COPIES - 1:
                original = rng.randrange(i)
                while original % COPIES == COPIES - 1:
                    original = rng.randrange(i)
                question, answer = rows_so_far[original]
                answer = list(answer)
                for _ in range(max(len(answer) // 60, 1)):  # about one word in sixty
                    answer[rng.randrange(len(answer))] = rng.choice(vocabulary)
                related |= {i, original}
                if jaccard(answer, rows_so_far[original][1]) >= SIMILAR:
                    copies[i] = original
            else:
                drawn = rng.choices(vocabulary, cum_weights=weights, k=10 + rng.randint(20, 120))
                question, answer = " ".join(drawn[:10]), drawn[10:]
            rows_so_far.append((question, answer))
            turns = [
                {"from": "human", "value": question},
                {"from": "gpt", "value": " ".join(answer)},
            ]
            f.write(
                json.dumps({"id": i, "data_source": f"source{i % 10}", "conversations": turns})
                + "\n"
            )
    return copies, related


def jaccard(a: list[str], b: list[str]) -> float:
    """Jaccard similarity of the sets of three consecutive words."""
    one, two = ({tuple(words[i : i + 3]) for i in range(len(words) - 2)} for words in (a, b))
    return len(one & two) / len(one | two)


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Wall time (s), CPU time (s) and peak memory (GB) of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        assert process.stderr is not None
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr.read().decode()}")
    return (
        time.perf_counter() - start,
        usage.ru_utime + usage.ru_stime,
        in_bytes(usage.ru_maxrss) / 1e9,
    )


def peer(path: Path, rows: int) -> float | None:
    """CPU time of datasketch in seconds per row; None if it is not installed."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        return None
    texts = []
    with path.open() as f:
        for _, line in zip(range(rows), f, strict=False):
            texts.append(" ".join(t["value"] for t in json.loads(line)["conversations"]).split())
    start = time.process_time()
    index = MinHashLSH(threshold=0.8, num_perm=128)
    for i, words in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(words[j : j + 3]).encode() for j in range(len(words) - 2)])
        index.query(sketch)
        index.insert(i, sketch)
    return (time.process_time() - start) / len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = arguments.rows or (20_000 if arguments.quick else 500_000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pool = folder / "pool.jsonl"
        copies, related = generate(pool, rows)
        environment = {**os.environ, "THRESHER_STORE": str(folder / "store")}
        select = [
            sys.executable,
            "-m",
            "thresher",
            "select",
            str(pool),
            "--method",
            "random",
            "--budget",
            "100%",
        ]
        seconds, busy, memory = run(
            [*select, "--dedup", "near", "--out", str(folder / "out")], environment
        )
        again, busy_again, _ = run(
            [*select, "--dedup", "near", "--out", str(folder / "out")], environment
        )
        kept = pq.read_table(folder / "out" / "evidence.parquet", columns=["row"])[
            "row"
        ].to_pylist()
        stays = set(kept)
        families: dict[int, list[int]] = {}
        for copy, original in copies.items():
            families.setdefault(original, [original]).append(copy)
        found = sum(len(f) - sum(r in stays for r in f) for f in families.values())
        most = sum(len(f) - 1 for f in families.values())
        wrong = sum(r not in stays for r in range(rows) if r not in related)
        each = peer(pool, min(PEER_ROWS, rows))
    table = Table(title=f"{rows:,} text rows, {len(copies):,} near copies planted")
    for column in ("", "value"):
        table.add_column(column, justify="left" if column == "" else "right")
    table.add_row("first run, s (of CPU)", f"{seconds:.1f} ({busy:.1f})")
    table.add_row("again, signatures stored, s (of CPU)", f"{again:.1f} ({busy_again:.1f})")
    table.add_row("peak memory, GB", f"{memory:.2f}")
    table.add_row("copies found", f"{found:,} of {most:,} ({found / most:.1%})")
    table.add_row("other rows taken for copies", f"{wrong:,}")
    results: list[dict[str, Any]] = [
        {
            "name": "near copies found",
            "ours": found / most,
            "peer": 1.0,
            "ratio": found / most,
            "unit": "share",
        }
    ]
    if each is not None:
        table.add_row(
            f"datasketch, s of CPU (from {min(PEER_ROWS, rows):,} rows)", f"{each * rows:.1f}"
        )
        ratio = each * rows / busy
        table.add_row("ratio", f"{ratio:.1f}x")
        results.append(
            {
                "name": "near duplicates",
                "ours": busy,
                "peer": each * rows,
                "ratio": ratio,
                "unit": "s of CPU",
            }
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
