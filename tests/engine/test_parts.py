"""Components of the engine: row numbering, eligible rows, passes, order by image."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.text_pools import Loss, record, write_pool
from thresher.backends.fake import IDENTITY
from thresher.engine.eligible import EligibleRows, PoolLimit
from thresher.engine.numbering import RowNumbering
from thresher.engine.scoring import by_missing
from thresher.engine.scoring_request import ScoringRequest, image_order
from thresher.errors import ConfigError, TooManyFailures
from thresher.pools import Pool, open_pool
from thresher.types import DIGEST


def pool_of(path: Path, *numbers: int) -> Pool:
    return open_pool(write_pool(path, [record(i) for i in numbers]))


def numbering_of(n: int) -> RowNumbering:
    """Pool rows in the reverse of canonical order."""
    rows = np.arange(n)[::-1].copy()
    digest = np.array([bytes([i + 1]) * 32 for i in range(n)], DIGEST)
    return RowNumbering(
        rows, rows.copy(), digest, np.arange(n, dtype=np.uint64), np.zeros(n, np.int32), ("",)
    )


# ------------------------------------------------------------------------------------- numbering


@pytest.mark.parametrize("seed", [0, 7])
def test_positions_do_not_depend_on_the_order_of_the_file(tmp_path: Path, seed: int) -> None:
    numbers = [*range(30), 4, 4, 9]  # with copies
    first = pool_of(tmp_path / "a.json", *numbers)
    random.Random(seed).shuffle(numbers)
    second = pool_of(tmp_path / "b.json", *numbers)
    a, b = RowNumbering.of(first, seed), RowNumbering.of(second, seed)
    assert np.array_equal(a.digest, b.digest) and np.array_equal(a.ties, b.ties)
    for pool, numbering in ((first, a), (second, b)):
        n = len(numbering)
        assert np.array_equal(numbering.pool_rows[numbering.positions], np.arange(n))
        assert np.array_equal(pool.digest[numbering.pool_rows], numbering.digest)
        assert (numbering.digest[1:] >= numbering.digest[:-1]).all()


# --------------------------------------------------------------------------------- eligible rows


def test_failed_row_stays_excluded() -> None:
    eligible = EligibleRows(numbering_of(6), "exclude")
    eligible.exclude(np.array([1, 3]), "a", ["x", "y"])
    eligible.exclude(np.array([3, 4]), "b", ["z", "w"])
    assert eligible.mask.tolist() == [True, False, True, False, False, True]
    assert eligible.pool_rows.tolist() == [5, 3, 0]
    noted = [(f.positions.tolist(), f.label, f.errors) for f in eligible.failed]
    assert noted == [([1, 3], "a", ["x", "y"]), ([4], "b", ["w"])]


def test_unscorable_and_removed_rows_are_no_failures() -> None:
    eligible = EligibleRows(numbering_of(6), "refuse", is_aside=lambda error: error == "long")
    eligible.exclude(np.array([4, 2]), "a", ["long", "long"])
    eligible.remove(np.array([0]))
    assert eligible.failed == [] and eligible.pool_rows_aside.tolist() == [3, 1]
    assert eligible.pool_rows.tolist() == [5, 4, 2] and eligible.considered == 6
    eligible.remove(np.array([3]))  # set aside before: may not be taken any more
    assert eligible.pool_rows_aside.tolist() == [1]
    eligible.check(Counter({"long": 3}))
    with pytest.raises(TooManyFailures, match=r"1 of 6 rows .* 1 × broken"):
        eligible.check(Counter({"long": 3, "broken": 1}))


def test_only_rows_within_the_mask_are_considered() -> None:
    within = np.array([True, True, False, False, True, False])  # by pool row
    eligible = EligibleRows(numbering_of(6), "exclude", within)
    assert eligible.considered == 3 and sorted(eligible.pool_rows.tolist()) == [0, 1, 4]
    with pytest.raises(TooManyFailures, match=r"3 of 3 rows .*no row is left"):
        eligible.exclude(np.flatnonzero(eligible.mask), "a", ["x", "x", "x"])


@pytest.mark.parametrize(
    ("on_missing", "rows", "allowed"),
    [("auto", 40, 2), ("auto", 19, 0), ("refuse", 40, 0), ("exclude", 40, 39)],
)
def test_limits(on_missing: str, rows: int, allowed: int) -> None:
    limit = PoolLimit(on_missing, rows)  # type: ignore[arg-type]
    limit.check(Counter({"x": allowed}), scored=False)
    with pytest.raises(TooManyFailures) as raised:
        limit.check(Counter({"x": allowed + 1}), scored=True)
    assert "retry_errors=True" in str(raised.value)
    assert ('on_missing="exclude"' in str(raised.value)) == (on_missing != "exclude")


def test_unknown_failure_limit_is_reported() -> None:
    with pytest.raises(ConfigError, match='on_missing="never"'):
        PoolLimit("never", 3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- passes


def request_missing(missing: list[bool]) -> ScoringRequest:
    m = len(missing)
    keys = np.array([bytes([i + 1]) * 32 for i in range(m)], DIGEST)
    every = np.arange(m)
    errors = np.full(m, "", object)
    ones = np.ones(m, np.int64)
    return ScoringRequest(
        Loss(IDENTITY), "x", "f", keys, every, ones, every, every, {}, errors, np.array(missing)
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("signals", [1, 2, 5])
def test_each_missing_value_is_in_exactly_one_pass(signals: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    missing = rng.random((signals, 23)) < 0.4
    requests = [request_missing(m.tolist()) for m in missing]
    asked = np.zeros(missing.shape, int)
    rows_of_passes = []
    for of_pass, entries in by_missing(requests):
        rows_of_passes += entries.tolist()
        for request in of_pass:
            asked[[r is request for r in requests].index(True), entries] += 1
    assert np.array_equal(asked, missing.astype(int))
    assert len(rows_of_passes) == len(set(rows_of_passes))  # a row passes the model once


# --------------------------------------------------------------------------------- order by image


def test_rows_of_an_image_are_adjacent_without_parsing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 50)
    records = [record(i, "abc"[i % 3] if i % 5 else None) for i in range(40)]
    pool = open_pool(write_pool(tmp_path / "pool.json", records), tmp_path)
    monkeypatch.setattr(Pool, "samples", None)
    monkeypatch.setattr(Pool, "sample", None)

    def ordered(rows: np.ndarray) -> list[int]:
        return rows[image_order(pool, rows, pool.digest[rows])].tolist()  # type: ignore[no-any-return]

    order = ordered(np.arange(40))
    images = [records[row].get("image") for row in order]
    runs = [i for k, i in enumerate(images) if k == 0 or images[k - 1] != i]
    assert images[:8] == [None] * 8 and len(runs) == 4
    assert ordered(np.random.default_rng(1).permutation(40)) == order
