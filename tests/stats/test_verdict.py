"""Verdicts on simulated tables: no false gains, true gains found, and arithmetic by hand."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from thresher.stats.verdict import (
    compare_to_random,
    describe,
    difference,
    mean_over_seeds,
    t_quantile,
)

NORMAL = NormalDist()


def table(
    rng: np.random.Generator,
    rows: int,
    seeds: int,
    gain: float,
    *,
    accuracy: float,
    seed_sd: float,
    shared: float,
    per_image: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of random and of a method whose true accuracy is `gain` higher, [seeds, rows] each.

    A row is right where its difficulty lies below the model's ability. `shared`: part of a row's
    luck that all seeds have in common; the rest flips. `seed_sd`: shift of a whole model's accuracy
    from seed to seed.
    """
    level, ability = NORMAL.inv_cdf(accuracy), NORMAL.inv_cdf(accuracy + gain)
    slope = NORMAL.pdf(level)
    difficulty = np.repeat(rng.standard_normal(rows // per_image), per_image)
    arms = []
    for where in (level, ability):
        flip = np.repeat(rng.standard_normal((seeds, rows // per_image)), per_image, axis=1)
        luck = np.sqrt(shared) * difficulty + np.sqrt(1 - shared) * flip
        shift = rng.standard_normal((seeds, 1)) * seed_sd / slope
        arms.append((luck < where + shift).astype(float))
    return arms[0], arms[1]


# rows, accuracy, SD of the common shift, shared luck -> SD of an arm's accuracy over seeds (shift
# and flips): 0.5 to 1.5 points
WORLDS = {
    "calm": (4000, 0.6, 0.003, 0.9),  # 0.5
    "usual": (1000, 0.6, 0.005, 0.9),  # 0.9
    "weak model": (1500, 0.4, 0.008, 0.8),  # 1.1
    "strong model": (1000, 0.9, 0.01, 0.6),  # 1.2
    "flipping": (1000, 0.6, 0.005, 0.6),  # 1.3
    "rough": (1000, 0.6, 0.010, 0.8),  # 1.4
    "all shift": (4000, 0.7, 0.0145, 0.9),  # 1.5
}


@pytest.mark.parametrize("name", WORLDS)
def test_simulated_tables(name: str) -> None:
    rows, accuracy, seed_sd, shared = WORLDS[name]
    rng = np.random.default_rng(sum(name.encode()))
    tables = 400
    false, found = 0, 0
    for _ in range(tables):
        random, method = table(rng, rows, 3, 0.0, accuracy=accuracy, seed_sd=seed_sd, shared=shared)
        false += compare_to_random(method, random).kind != "no gain"
        random, method = table(
            rng, rows, 3, 0.05, accuracy=accuracy, seed_sd=seed_sd, shared=shared
        )
        found += compare_to_random(method, random).kind == "beats"
    print(f"{name}: no gain {1 - false / tables:.3f}, found {found / tables:.3f}")  # noqa: T201
    assert false <= 0.05 * tables
    assert found >= 0.90 * tables


def test_a_hundred_tables_with_mixed_variance() -> None:
    """The acceptance criterion: 100 tables each, seed SD drawn from 0.5 to 1.5 points."""
    rng = np.random.default_rng(3)
    kinds: dict[float, list[str]] = {0.0: [], 0.05: [], -0.05: []}
    for gain, seen in kinds.items():
        for _ in range(100):
            shift = rng.uniform(0.002, 0.012)
            random, method = table(
                rng, 1200, 3, gain, accuracy=rng.uniform(0.35, 0.8), seed_sd=shift, shared=0.8
            )
            seen.append(compare_to_random(method, random).kind)
    assert kinds[0.0].count("no gain") >= 95
    assert kinds[0.05].count("beats") >= 90
    assert kinds[-0.05].count("worse") >= 90


def test_rows_of_one_image_count_as_one() -> None:
    """Sixteen questions an image, right and wrong together, two seeds: without clusters the rows
    look sixteen times as many."""
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(100), 16)
    wrong = {True: 0, False: 0}
    half = {True: 0.0, False: 0.0}
    tables = 200
    for _ in range(tables):
        random, method = table(
            rng, 1600, 2, 0.0, accuracy=0.6, seed_sd=0.0, shared=0.3, per_image=16
        )
        for known in wrong:
            verdict = compare_to_random(method, random, cluster if known else None)
            wrong[known] += verdict.kind != "no gain"
            half[known] += verdict.difference.half / tables
    assert wrong[True] <= 0.05 * tables < 0.10 * tables < wrong[False]
    assert half[True] > 1.3 * half[False]


def test_the_rows_are_paired() -> None:
    """The same difficult rows in both arms cancel: the difference is known better than either
    accuracy."""
    rng = np.random.default_rng(0)
    random, method = table(rng, 400, 3, 0.0, accuracy=0.5, seed_sd=0.0, shared=0.98)
    unpaired = 196 * np.sqrt(2 * 0.25 / 400)  # two independent samples of 400 rows
    assert difference(method, random).half < 0.6 * unpaired


def test_the_arithmetic_of_a_table_made_by_hand() -> None:
    random = np.zeros((3, 100))
    random[:, :50] = 1  # every seed answers the same 50 rows: no flips, no spread
    method = random.copy()
    method[:, 50:60] = 1
    verdict = compare_to_random(method, random, full=np.full((3, 100), 0.8))
    assert (
        verdict.mean.mean == 60
        and verdict.random.mean == 50
        and verdict.percent_of_full == pytest.approx(75)
    )
    assert verdict.difference.mean == pytest.approx(10)
    # only the prior: weight 6 of 10, two arms, three seeds
    by_seed = 6 * 2 * 1.3**2 / 10 / 3
    by_row = 1e4 * 0.1 * 0.9 / 99  # a difference of 1 in 10 rows of 100
    freedom = 10 * ((by_seed + by_row) / by_seed) ** 2
    assert verdict.difference.half == pytest.approx(t_quantile(freedom) * np.sqrt(by_seed + by_row))
    assert verdict.mean.half == pytest.approx(t_quantile(8) * np.sqrt(6 * 1.3**2 / 8 / 3))
    assert verdict.kind == "beats" and verdict.words == (
        f"beats random by {verdict.difference} points"
    )
    back = compare_to_random(random, method)
    assert back.kind == "worse" and back.words == (
        f"worse than random by {verdict.difference} points"
    )


def test_more_seeds_and_rows_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    halves = {}
    for seeds, rows in ((1, 1000), (3, 1000), (8, 1000), (8, 16000)):
        random, method = table(rng, rows, seeds, 0.0, accuracy=0.6, seed_sd=0.004, shared=0.7)
        halves[seeds, rows] = difference(method, random).half
    assert halves[1, 1000] > halves[3, 1000] > halves[8, 1000] > halves[8, 16000]


def test_large_variance_over_seeds_widens_the_interval() -> None:
    """Seeds that differ by ten points widen the interval, whatever is typical."""
    rng = np.random.default_rng(2)
    calm = table(rng, 1000, 5, 0.05, accuracy=0.5, seed_sd=0.002, shared=0.9)
    wild = table(rng, 1000, 5, 0.05, accuracy=0.5, seed_sd=0.10, shared=0.9)
    assert difference(calm[1], calm[0]).half < 3 < 6 < difference(wild[1], wild[0]).half


def test_equal_arms_have_no_gain() -> None:
    random = np.random.default_rng(0).integers(0, 2, (3, 200)).astype(float)
    verdict = compare_to_random(random, random)
    assert verdict.kind == "no gain" and verdict.words.startswith("no gain over random (+0.0 ± ")
    assert mean_over_seeds(np.ones((2, 5))).mean == 100
    assert describe("no gain", verdict.difference) == verdict.words
