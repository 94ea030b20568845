"""Semantic duplicates from vectors: semhash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.comparison import Comparison, Job, Tool

THRESHOLD = 0.95
ROUNDING = 0.001  # vectors are in half precision
TOLERATED = 0.01  # of the rows left out: fewer errors more than thresher's do not count


def make(folder: Path, rows: int) -> None:
    """Vectors of answers as in benchmarks/semantic.py; rows have no image and no question, so that
    one cosine decides for both tools."""
    import numpy as np
    from benchmarks.semantic import synthetic

    from thresher.duplicates.semantic import centred
    from thresher.signals.vectors import from_bytes

    values = dict(synthetic(rows))
    for name in ("images", "question"):
        values[name] = np.zeros_like(values[name])
    np.savez(folder / "columns.npz", **values)
    np.save(folder / "vectors.npy", centred(from_bytes(values["answer"]))[:, :-1].astype("f4"))


def thresher(folder: Path, scratch: Path) -> Job:
    import numpy as np

    from thresher.duplicates.semantic import semantic_groups

    def run() -> list[int]:
        with np.load(folder / "columns.npz") as stored:
            values = dict(stored)
        n = len(values["form"])
        group = semantic_groups(values, np.arange(n), THRESHOLD)
        kept: list[int] = np.flatnonzero(group == np.arange(n)).tolist()
        return kept

    return run


def semhash(folder: Path, scratch: Path, backend: str = "usearch") -> Job:
    import numpy as np
    from semhash import SemHash

    def run() -> list[int]:
        vectors = np.load(folder / "vectors.npy")
        names = [str(row) for row in range(len(vectors))]
        index = SemHash.from_embeddings(vectors, names, model=None, ann_backend=backend)
        kept = index.self_deduplicate(threshold=THRESHOLD).selected
        return sorted(int(name) for name in kept)

    return run


def semhash_exact(folder: Path, scratch: Path) -> Job:
    return semhash(folder, scratch, "basic")


def judge(folder: Path, ours: Any, theirs: Any) -> tuple[str, bool]:
    missed, wrong = errors(folder, theirs)
    our_missed, our_wrong = errors(folder, ours)
    left_out = len(_vectors(folder)) - len(theirs)
    text = f"{left_out:,} rows left out, {missed:,} missed, {wrong:,} wrong"
    most = TOLERATED * left_out
    return text, missed <= our_missed + most and wrong <= our_wrong + most


def _vectors(folder: Path) -> Any:
    import numpy as np

    return np.load(folder / "vectors.npy")


def errors(folder: Path, kept: list[int]) -> tuple[int, int]:
    """(kept rows that are similar to an earlier kept one, rows left out that are similar to no
    kept one), by all pairs. Cosines this close to the threshold count as either.

    Arguments:
        folder: the inputs.
        kept: ascending.
    """
    import numpy as np

    vectors = _vectors(folder)
    stays = vectors[kept]
    place = np.full(len(vectors), -1)
    place[kept] = np.arange(len(kept))
    missed = wrong = 0
    for start in range(0, len(vectors), 1024):
        cosines = vectors[start : start + 1024] @ stays.T
        own = place[start : start + 1024]
        earlier = np.arange(len(kept)) < own[:, None]
        missed += int(((cosines >= THRESHOLD + ROUNDING) & earlier).any(axis=1).sum())
        wrong += int(((own < 0) & (cosines < THRESHOLD - ROUNDING).all(axis=1)).sum())
    return missed, wrong


COMPARISON = Comparison(
    title="Semantic duplicates",
    job="Keep one of each group of rows whose vectors of 256 numbers have a cosine of at least "
    f"{THRESHOLD} (`benchmarks/semantic.py`: one row in ten is near another one). thresher: the "
    "grouping of `--dedup semantic`. semhash: `from_embeddings` and `self_deduplicate` on the same "
    "vectors, with its default index and with its exact one; its default text encoder is a "
    "download, so embedding is not compared. Missed: kept rows that are similar to an earlier kept "
    "one. Wrong: rows left out that are similar to no kept one.",
    rows=8_000,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(
        Tool(
            "semhash",
            semhash,
            "semhash",
            "semhash",
            why="needs less memory: it searches a graph of neighbours. thresher compares up to "
            "1,024 × 8,192 cosines at once, and reads columns for images and questions, which are "
            "empty here.",
        ),
        Tool("semhash, exact index", semhash_exact, "semhash", "semhash"),
    ),
    judge=judge,
)
