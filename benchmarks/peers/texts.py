"""Near-duplicate texts: datasketch, text-dedup."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.peers.comparison import Comparison, Job, Tool
from benchmarks.peers.copies import Planted, judge_copies

THRESHOLD, PERMUTATIONS, SHINGLE = 0.8, 128, 3


def make(folder: Path, rows: int) -> None:
    from benchmarks.duplicates import generate

    copies, related = generate(folder / "pool.jsonl", rows)
    Planted(rows, sorted(copies.items()), sorted(related)).write(folder)
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as out:
        for text in _texts(folder):
            out.write(json.dumps({"text": text}) + "\n")


def _texts(folder: Path) -> list[str]:
    with (folder / "pool.jsonl").open(encoding="utf-8") as lines:
        return [" ".join(t["value"] for t in json.loads(line)["conversations"]) for line in lines]


def thresher(folder: Path, scratch: Path) -> Job:
    from benchmarks.peers.ours import deduplicate

    return lambda: deduplicate(folder / "pool.jsonl", scratch, "near")


def datasketch(folder: Path, scratch: Path) -> Job:
    from datasketch import MinHash, MinHashLSH

    def run() -> list[int]:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
        kept = []
        for row, text in enumerate(_texts(folder)):
            words = text.split()
            sketch = MinHash(num_perm=PERMUTATIONS)
            sketch.update_batch(
                [" ".join(words[i : i + SHINGLE]).encode() for i in range(len(words) - SHINGLE + 1)]
            )
            if not index.query(sketch):
                index.insert(row, sketch)
                kept.append(row)
        return kept

    return run


def text_dedup(folder: Path, scratch: Path) -> Job:
    from datasets import load_from_disk
    from text_dedup.minhash import main

    options = {
        "path": "json",
        "data_files": folder / "texts.jsonl",
        "split": "train",
        "cache_dir": scratch / "cache",
        "output": scratch / "out",
        "column": "text",
        "ngram": SHINGLE,
        "threshold": THRESHOLD,
        "num_perm": PERMUTATIONS,
        "min_length": 0,
        "num_proc": 1,
    }

    def run() -> list[int]:
        arguments = [x for name, value in options.items() for x in (f"--{name}", str(value))]
        main(arguments, standalone_mode=False)
        kept = set(load_from_disk(str(scratch / "out"))["text"])
        return [row for row, text in enumerate(_texts(folder)) if text in kept]

    return run


COMPARISON = Comparison(
    title="Near-duplicate texts",
    job="Read a JSONL pool of text rows (`benchmarks/duplicates.py`; one in 20 a copy with about "
    "one word in sixty changed) and keep one of each group with a Jaccard similarity of at least "
    f"{THRESHOLD} of their {SHINGLE}-word shingles. thresher: `--dedup near`, which compares "
    f"questions and answers separately. Peers: {PERMUTATIONS} permutations over the whole text.",
    rows=6_000,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(
        Tool(
            "datasketch",
            datasketch,
            "datasketch",
            "datasketch",
            why="needs less memory, because it needs little more than numpy. thresher's process "
            "takes 172 MB for 200 rows, most of it packages such as pyarrow and scipy.",
        ),
        Tool("text-dedup", text_dedup, "text-dedup", "text_dedup"),
    ),
    judge=judge_copies,
)
