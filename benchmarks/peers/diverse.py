"""Diverse subsets of vectors: submodlib, apricot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.comparison import Comparison, Job, Tool

SHARE = 0.1  # of the rows, that are taken
WIDTH = 64
SAME = 0.005  # cosines that differ by less are the same


def make(folder: Path, rows: int) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(rows // 50, 2), WIDTH))
    vectors = centres[rng.integers(0, len(centres), rows)] + rng.standard_normal((rows, WIDTH))
    # in steps of 1/64, so that products are exact and both tools see the same similarities
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(folder / "vectors.npy", (np.round(vectors * 1024) / 1024).astype(np.float32))


def _inputs(folder: Path) -> tuple[Any, int]:
    """(vectors float32 [n, d], number of rows to take)."""
    import numpy as np

    vectors = np.load(folder / "vectors.npy")
    return vectors, max(int(SHARE * len(vectors)), 2)


def thresher(folder: Path, scratch: Path) -> Job:
    import numpy as np

    from thresher.samplers.farthest_point import farthest_points

    def run() -> list[int]:
        vectors, k = _inputs(folder)
        ties = np.arange(len(vectors), dtype=np.uint64)
        taken: list[int] = farthest_points(vectors, k, ties, first=0).tolist()
        return taken

    return run


def disparity_min(folder: Path, scratch: Path) -> Job:
    from submodlib import DisparityMinFunction

    def run() -> list[int]:
        vectors, k = _inputs(folder)
        similarity = (vectors @ vectors.T + 1) / 2  # it requires 0..1
        function = DisparityMinFunction(len(vectors), "dense", sijs=similarity)
        return [int(row) for row, _ in function.maximize(budget=k, optimizer="NaiveGreedy")]

    return run


def facility_location(folder: Path, scratch: Path) -> Job:
    import numpy as np
    from apricot import FacilityLocationSelection

    def run() -> list[int]:
        vectors, k = _inputs(folder)
        similarity = ((vectors @ vectors.T + 1) / 2).astype(np.float64)
        chosen = FacilityLocationSelection(k, metric="precomputed").fit(similarity)
        taken: list[int] = chosen.ranking.tolist()
        return taken

    return run


def quality(folder: Path, rows: Any) -> tuple[float, float]:
    """(lowest, mean) over all rows of the similarity with the nearest taken row."""
    vectors, _ = _inputs(folder)
    nearest = (vectors @ vectors[rows].T).max(axis=1)
    return float(nearest.min()), float(nearest.mean())


def judge(folder: Path, ours: Any, theirs: Any) -> tuple[str, bool]:
    """As good: the lowest or the mean similarity, whichever the tool maximises, is no lower."""
    lowest, mean = quality(folder, theirs)
    our_lowest, our_mean = quality(folder, ours)
    text = f"{len(theirs):,} rows; nearest taken row: lowest cosine {lowest:.3f}, mean {mean:.3f}"
    return text, lowest >= our_lowest - SAME or mean >= our_mean + SAME


COMPARISON = Comparison(
    title="Diverse rows",
    job=f"Take {SHARE:.0%} of the rows of vectors of {WIDTH} numbers so that every row has a taken "
    "row near it. thresher: farthest points (greedy k-centre), which `dics` uses. submodlib: "
    "`DisparityMin` with the naive greedy optimiser, the same objective. apricot: facility "
    "location, another objective (the mean similarity with the nearest taken row, not the lowest) "
    "that thresher has no method for.",
    rows=2_000,
    make=make,
    thresher=Tool("thresher", thresher),
    peers=(
        Tool("submodlib DisparityMin", disparity_min, "submodlib-py", "submodlib"),
        Tool("apricot FacilityLocation", facility_location, "apricot-select", "apricot"),
    ),
    judge=judge,
)
