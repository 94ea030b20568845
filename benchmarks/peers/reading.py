"""Opening a pool: `datasets.load_dataset("json")`."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.comparison import Comparison, Job, Tool

SAMPLE = 2_000  # rows whose texts are read after opening
Turns = Iterable[tuple[bool, str]]  # (whether it is an answer, text)


def make(folder: Path, rows: int) -> None:
    from benchmarks.reading import generate

    generate(folder, rows)


def digest(samples: Iterable[Turns]) -> str:
    """Hash of the answers of some rows."""
    state = hashlib.sha256()
    for turns in samples:
        for is_answer, text in turns:
            if is_answer:
                state.update(text.encode())
    return state.hexdigest()[:16]


def numbers(rows: int) -> list[int]:
    """The rows that are read after opening, the same for every tool."""
    return sorted(random.Random(0).sample(range(rows), min(SAMPLE, rows)))


def thresher(folder: Path, scratch: Path) -> Job:
    from thresher.pools import open_pool

    def run() -> list[Any]:
        pool = open_pool(folder / "pool.json", folder / "images", cache=scratch / "cache")
        samples = pool.samples(numbers(len(pool)))
        found = digest([(t.role == "assistant", t.text) for t in s.turns] for s in samples)
        return [len(pool), found]

    return run


def load_dataset(folder: Path, scratch: Path) -> Job:
    import datasets

    datasets.disable_progress_bars()

    def run() -> list[Any]:
        rows = datasets.load_dataset(
            "json",
            data_files=str(folder / "pool.json"),
            split="train",
            cache_dir=str(scratch / "cache"),
        )
        samples = (rows[i]["conversations"] for i in numbers(len(rows)))
        return [len(rows), digest([(t["from"] == "gpt", t["value"]) for t in s] for s in samples)]

    return run


def judge(folder: Path, ours: Any, theirs: Any) -> tuple[str, bool]:
    same = "the same" if theirs == ours else "NOT the same"
    return f"{theirs[0]:,} rows, answers of a sample {same}", theirs == ours


COMPARISON = Comparison(
    title="Opening a pool",
    job="Open a LLaVA JSON list (`benchmarks/reading.py`, about 1.5 kB a row, images on disk) for "
    f"the first time, and read the answers of {SAMPLE:,} rows. thresher: `open_pool` with a cache, "
    "which also checks every turn, digests every row, counts words and finds every image file. "
    'datasets: `load_dataset("json")` with an empty cache folder.',
    rows=40_000,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(Tool("datasets", load_dataset, "datasets"),),
    judge=judge,
)
