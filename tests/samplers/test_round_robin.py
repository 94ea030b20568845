"""mmSSR's sampler: a pool by hand, comparison with the published algorithm, and exhausted
groups."""

import numpy as np
import pandas as pd
import pytest

from tests.samplers.published_mmssr import select as published
from thresher.samplers import round_robin

NAMES = ("multi-choice", "yes/no", "word", "detailed")
SOURCES = ("b", "a", "a+", "c")
# each is another pool; with 20 of them every shape occurs several times
SEEDS = [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 60))]


def ordinals(n):
    return np.arange(n, dtype=np.uint64)


def test_twelve_rows_by_hand():
    """
    row     0  1  2  3  4  5  6  7  8  9  10  11
    style   x  x  x  x  x  x  y  y  y  z  xy  y         row 10 has two
    A       5  4  3  2  1  0  5  4  3  1  2   0
    B       0  0  5  4  0  0  0  5  0  5  4   5

    k = 6. Round 0: A may take 6 // 2 = 3. Its groups above 0: z {9}, y {6 7 8 10}, x {0 1 2 3 4
    10}: each gives 1, the smallest first: 9, 6, 0. B may take 3: z has nothing left; x {2 3 10} and
    y {7 10 11} have three each, so x comes first by name, and each gives 3 // 2 = 1: 2, then 7
    (ties: 7 before 11). One row is left. Round 1: A may take max(1 // 2, 1) = 1: its groups are y
    {8 10} and x {1 3 4 10}; y is smaller: 8.
    """
    styles = np.zeros((12, 3), bool)
    styles[[0, 1, 2, 3, 4, 5, 10], 0] = True
    styles[[6, 7, 8, 10, 11], 1] = True
    styles[9, 2] = True
    a = np.array([5, 4, 3, 2, 1, 0, 5, 4, 3, 1, 2, 0], np.float32)
    b = np.array([0, 0, 5, 4, 0, 0, 0, 5, 0, 5, 4, 5], np.float32)
    out = round_robin([a, b], styles, 6, ordinals(12))
    assert out.rows.tolist() == [9, 6, 0, 2, 7, 8]
    assert out.rows.dtype == np.int64
    assert out.capability[out.rows].tolist() == [0, 0, 0, 1, 1, 0]
    assert out.style[out.rows].tolist() == [2, 1, 0, 0, 1, 1]
    assert out.round[out.rows].tolist() == [0, 0, 0, 0, 0, 1]
    assert (out.capability[[1, 3, 4, 5, 10, 11]] == -1).all() and out.dropped == ()
    back = round_robin([a, b], styles, 6, ordinals(12)[::-1])
    # 11 before 7 for B, so that A finds 7 (4) before 8 (3)
    assert back.rows.tolist() == [9, 6, 0, 2, 11, 7]


def test_shortfall_of_a_group_is_carried_over():
    """Groups of 1, 2 and 9 rows, one capability, k = 9: 3 each; 1, then 2 + nothing more, then 3 +
    3 carried."""
    styles = np.zeros((12, 3), bool)
    styles[0, 0] = styles[1:3, 1] = styles[3:, 2] = True
    out = round_robin([np.arange(12, 0, -1).astype(float)], styles, 9, ordinals(12))
    assert out.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8] and out.round[out.rows].max() == 0


def test_weights_divide_a_round():
    """Two capabilities, 3 : 1, of 40 rows: 30 and 10."""
    rng = np.random.default_rng(0)
    scores = [rng.random(400), rng.random(400)]
    styles = np.ones((400, 1), bool)
    out = round_robin(scores, styles, 40, ordinals(400), weights=[3, 1])
    assert np.bincount(out.capability[out.rows]).tolist() == [30, 10]


def test_exhausted_capability_is_dropped():
    scores = [np.array([1.0, 0, 0, 0, 0, 0]), np.array([0, 1.0, 2, 3, 4, 5]), np.zeros(6)]
    out = round_robin(scores, np.ones((6, 1), bool), 5, ordinals(6))
    assert sorted(out.rows.tolist()) == [0, 2, 3, 4, 5]
    assert out.dropped == ((2, 0), (0, 1))


def test_budget_above_the_eligible_rows_takes_all():
    scores = [np.array([1.0, 0.0, np.nan, 2.0, 5.0])]
    styles = np.array([[1], [1], [1], [1], [0]], bool)
    out = round_robin(scores, styles, 5, ordinals(5))
    assert out.rows.tolist() == [3, 0] and out.dropped == ((0, 2),)


@pytest.mark.parametrize("n", [0, 1])
def test_tiny_inputs(n):
    out = round_robin([np.ones(n)], np.ones((n, 2), bool), 3, ordinals(n))
    assert out.rows.tolist() == list(range(n))
    assert len(round_robin([], np.ones((n, 2), bool), 3, ordinals(n)).rows) == 0


# -------------------------------------------------------------------------- the published algorithm


def random_pool(seed):
    """(scores, styles, source) with ties, rows of several styles or none, groups of one row,
    capabilities with few rows."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 250))
    kinds, sources, capabilities = (int(rng.integers(1, high)) for high in (5, 5, 6))
    scores = []
    for _ in range(capabilities):
        values = rng.random(n) * 5
        if rng.random() < 0.7:
            values = np.round(values)  # 0 … 5: massive ties
        values[rng.random(n) < rng.choice([0.0, 0.5, 0.98])] = 0.0  # a capability that runs out
        values[rng.random(n) < 0.05] = np.nan
        scores.append(values.astype(np.float32))
    styles = rng.random((n, kinds)) < rng.choice([0.02, 0.3, 0.7], kinds)
    source = rng.choice(sources, n, p=rng.dirichlet(np.full(sources, 0.4)))
    return scores, styles, source.astype(np.int32), rng


def table(scores, styles, source):
    """As the published program reads it: a row's styles listed in `sty_1`, `sty_2`, …"""
    listed = [
        [f"{NAMES[k]}+{SOURCES[s]}" for k in np.flatnonzero(row)]
        for row, s in zip(styles, source.tolist(), strict=True)
    ]
    columns = {f"cap_{c}": values for c, values in enumerate(scores)}
    for j in range(styles.shape[1]):
        columns[f"sty_{j + 1}"] = pd.Series(
            [names[j] if j < len(names) else None for names in listed], dtype=object
        )
    return pd.DataFrame(columns)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_rows_as_the_published_algorithm(seed):
    scores, styles, source, rng = random_pool(seed)
    n = len(source)
    threshold = float(rng.choice([0, 0, 1, 3, 2.5]))
    weights = None if seed % 3 else rng.integers(1, 4, len(scores)).tolist()
    rows = table(scores, styles, source)
    capabilities = [f"cap_{c}" for c in range(len(scores))]
    for k in sorted({1, *rng.integers(1, n + 1, 2).tolist(), n}):
        expected = published(rows, capabilities, k, threshold, weights)
        ours = round_robin(
            scores,
            styles,
            k,
            ordinals(n)[::-1],
            source=source,
            names=(NAMES[: styles.shape[1]], SOURCES),
            threshold=threshold,
            weights=weights,
            official=True,
        )
        assert ours.rows.tolist() == expected, k


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_official_mode_differs_only_inside_a_group(seed):
    """One style a row: then the published algorithm on the rows sorted by `ties` is ours."""
    scores, styles, source, rng = random_pool(seed)
    styles &= np.cumsum(styles, axis=1) == 1
    n = len(source)
    ties = rng.permutation(n).astype(np.uint64)
    rows = table(scores, styles, source).iloc[np.argsort(ties)]
    capabilities = [f"cap_{c}" for c in range(len(scores))]
    for k in (1, max(n // 3, 1)):
        ours = round_robin(
            scores, styles, k, ties, source=source, names=(NAMES[: styles.shape[1]], SOURCES)
        )
        assert ours.rows.tolist() == published(rows, capabilities, k), k


def test_large_groups_are_partitioned_correctly():
    """Groups far above the sample from which the floor of a group's best scores is guessed, with
    and without ties."""
    rng = np.random.default_rng(5)
    n = 30_000
    for levels in (3, 50, 10**6):
        scores = [np.floor(rng.random(n) * levels).astype(np.float32) for _ in range(3)]
        scores[2] = scores[0] + scores[1]  # its best rows are gone when its turn comes
        styles = rng.random((n, 3)) < [0.9, 0.3, 0.05]
        source = (rng.random(n) < 0.2).astype(np.int32)
        rows = table(scores, styles, source)
        for k in (50, 9_000):
            expected = published(rows, ["cap_0", "cap_1", "cap_2"], k)
            ours = round_robin(
                scores,
                styles,
                k,
                ordinals(n),
                source=source,
                names=(NAMES[:3], SOURCES),
                official=True,
            )
            assert ours.rows.tolist() == expected


def test_best_rows_taken_by_another_group_in_the_same_turn():
    """The styles y and z have only the 6,000 best rows, which x has, too: where x expects its best
    ones, none is free."""
    n = 30_000
    score = np.random.default_rng(0).random(n).astype(np.float32)
    best = np.argsort(-score)
    styles = np.zeros((n, 3), bool)
    styles[:, 0] = True
    styles[best[:6_000], 1] = True
    styles[best[:5_999], 2] = True
    ours = round_robin([score], styles, 9_000, ordinals(n))
    assert sorted(ours.rows.tolist()) == sorted(best[:9_000].tolist())
    assert np.bincount(ours.style[ours.rows]).tolist() == [3_000, 3_000, 3_000]
    assert ours.rows[-3_000:].tolist() == best[6_000:9_000].tolist() and ours.round.max() == 0


def test_the_order_of_the_rows_does_not_matter():
    scores, styles, source, rng = random_pool(3)
    n = len(source)
    ties = rng.permutation(n).astype(np.uint64)
    names = (NAMES[: styles.shape[1]], SOURCES)
    first = round_robin(scores, styles, n // 2, ties, source=source, names=names).rows
    shuffle = rng.permutation(n)
    again = round_robin(
        [s[shuffle] for s in scores],
        styles[shuffle],
        n // 2,
        ties[shuffle],
        source=source[shuffle],
        names=names,
    ).rows
    assert shuffle[again].tolist() == first.tolist()
