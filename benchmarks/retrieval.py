"""Benchmark of BM25 over a million skill strings: time to index, time and memory of 1,000 queries.
Target: 2 minutes and 4 GB on 2 cores.

The strings are synthetic: 1 to 3 skills per row of 3 to 6 words each, from 5,000 words with Zipf
frequencies; half of the rows reuse one of 20,000 phrases, as a teacher's answers do. Also times the
allocation of 100,000 rows over the same 1,000 searches.

    python benchmarks/retrieval.py [--rows N] [--queries Q] [--quick] [--json FILE] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from thresher.console.peak_memory import peak_bytes
from thresher.retrieval import Bm25
from thresher.samplers.retrieve import retrieve

WORDS = 5_000
PHRASES = 20_000


def skills(rows: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, WORDS + 1)
    cumulated = np.cumsum(share / share.sum())
    words = [f"w{i}x" for i in range(WORDS)]

    def phrases(count: int) -> list[str]:
        lengths = rng.integers(3, 7, count)
        drawn = np.minimum(np.searchsorted(cumulated, rng.random(int(lengths.sum()))), WORDS - 1)
        ends = np.cumsum(lengths)
        return [
            " ".join(words[w] for w in drawn[e - n : e].tolist())
            for e, n in zip(ends, lengths, strict=True)
        ]

    known = phrases(PHRASES)
    out = []
    fresh = iter(phrases(2 * rows))
    for often, count in zip(rng.random(rows) < 0.5, rng.integers(1, 4, rows), strict=True):
        if often:
            out.append("\n".join(known[i] for i in rng.integers(0, PHRASES, count).tolist()))
        else:
            out.append("\n".join(x for x, _ in zip(fresh, range(count), strict=False)))
    return out


def gigabytes() -> float:
    return (peak_bytes() or 0) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="50,000 rows, 200 queries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, count = (50_000, 200) if arguments.quick else (arguments.rows, arguments.queries)
    documents = skills(rows, arguments.seed)
    queries = skills(count, arguments.seed + 1)
    ties = np.random.default_rng(arguments.seed).permutation(rows).astype(np.uint64)
    before = gigabytes()
    began = time.perf_counter()
    index = Bm25(documents, ties)
    indexed = time.perf_counter() - began
    began = time.perf_counter()
    found = sum(len(index.ranked(q, 100)[0]) for q in queries)
    searched = time.perf_counter() - began
    began = time.perf_counter()
    taken = retrieve(index, queries, rows // 10, np.arange(len(queries), dtype=np.uint64))
    allocated = time.perf_counter() - began
    table = Table(title=f"BM25 over {rows:,} rows of skills, {len(queries):,} queries")
    for column in ("what", "seconds", "peak memory"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("index", f"{indexed:.1f}", "")
    table.add_row(
        f"queries, 100 rows each ({found:,} found)", f"{searched:.1f}", f"{gigabytes():.2f} GB"
    )
    table.add_row(
        "index and queries", f"{indexed + searched:.1f}", f"of it the strings {before:.2f} GB"
    )
    table.add_row(
        f"allocation of {len(taken.rows):,} rows over these queries",
        f"{allocated:.1f}",
        f"{gigabytes():.2f} GB",
    )
    Console(width=110).print(table)
    if arguments.json:
        line = {
            "rows": rows,
            "queries": len(queries),
            "index_seconds": indexed,
            "query_seconds": searched,
        }
        arguments.json.write_text(
            json.dumps([line | {"allocation_seconds": allocated, "peak_gb": gigabytes()}]) + "\n"
        )


if __name__ == "__main__":
    main()
