import numpy as np
import pytest

from tests.methods.planted_columns import columns_of, digests, like_real
from thresher.methods import load
from thresher.methods.clipper import Clipper, mean_of_passes
from thresher.samplers import ks_distance
from thresher.signals.one_shot import OneShot
from thresher.types import Columns, MethodContext, ModelIdentity

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")


def run(columns, k, **settings):
    return load("clipper", settings).select(columns, k)


def ten_rows():
    """P: rows 0-3, W: rows 4-9; one-shot mean ascending inside both."""
    nll = np.array([0.1, 0.9, 0.3, 0.4, 1.5, 1.0, 2.0, 4.0, 3.0, 5.0], np.float32)
    p = np.array([0.1, 0.1, 0.3, 0.3, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0], np.float32)
    w = np.array([0.1, 0.3, 0.3, 0.5, 1.0, 1.2, 1.4, 2.0, 2.2, 2.4], np.float32)
    ties = np.array([9, 3, 7, 1, 5, 8, 6, 2, 4, 0], np.uint64)
    known = np.arange(10) < 4
    values = {
        "loss": {"nll": nll, "tokens": np.ones(10, np.int32), "greedy_match": known},
        "knowledge": {"parametric": known},
        "demonstration_p": {
            "half": np.arange(10, dtype=np.int32) % 2,
            "digest": np.sort(digests(10)),
        },
        "demonstration_w": {
            "half": np.arange(10, dtype=np.int32) % 2,
            "digest": np.sort(digests(10)),
        },
        "one_shot_p": {"nll": p},
        "one_shot_w": {"nll": w},
    }
    return Columns(np.sort(digests(10)), ties, np.array([0, 1] * 5, np.int32), ("a", "b"), values)


def test_ten_rows_by_hand_matching_the_one_shot_perplexity():
    # 5 rows: P 2, W 3. Two bins each: P {0,1} {2,3}, W {4,5,6} {7,8,9}; places P 1 1, W 2 1 (1.5
    # rounded up, then 1.5).
    # half of the places are preferred, counting places from the first: P's 1st, W's 1st and 3rd.
    # P: bin 0 by effect (0: 0, 1: .7) -> 1; bin 1 by ties -> 3. W: bin 0 is one block of two
    # places: by effect (4: .5, 5: -.1, 6: .8) -> 6, then by ties of 4, 5 -> 4; bin 1 by effect (7:
    # 2, 8: .9, 9: 2.8) -> 9.
    got = run(ten_rows(), 5, mirror="one_shot", bins="2")
    assert got.rows.tolist() == [9, 6, 1, 3, 4]  # preferred by effect: 2.8 .8 .7; then by ties: 1 5
    assert np.flatnonzero(got.reason["critical"]).tolist() == [1, 6, 9]
    assert got.reason["bin"].tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 1, 1]
    assert got.reason["knowledge"].tolist() == ["P"] * 4 + ["W"] * 6
    assert got.reason["subset"].tolist() == ["P_d", "P_q"] * 2 + ["W_d", "W_q"] * 3
    assert np.allclose(got.reason["nll_one_shot"], [0.1, 0.2, 0.3, 0.4, 1, 1.1, 1.2, 2, 2.1, 2.2])
    assert np.allclose(got.reason["effect"], [0, 0.7, 0, 0, 0.5, -0.1, 0.8, 2, 0.9, 2.8])


def test_ten_rows_by_hand_matching_both_perplexities():
    # one bin each. P, places 2 = slots of two along the zero-shot loss: strips by one-shot {0,1}
    # {2,3}, the second backwards: 0 1 | 3 2. 1st slot by effect -> 1, 2nd by ties -> 3.
    # W, places 3: strips {4,5,6} {7,8,9}; by zero-shot 5 4 6 | 9 7 8; slots {5,4} {6,9} {7,8}:
    # by effect (5: -.1, 4: .5) -> 4; by ties (6: 6, 9: 0) -> 9; by effect (7: 2, 8: .9) -> 7.
    got = run(ten_rows(), 5, bins="1")
    assert got.rows.tolist() == [7, 1, 4, 9, 3]
    assert np.flatnonzero(got.reason["critical"]).tolist() == [1, 4, 7]


def test_fewer_bins_for_small_budgets():
    nll, one, known = like_real(4000, 8)
    for k, mirror, least, most in (
        (200, "both", 4, 7),
        (4000, "both", 20, 20),
        (200, "one_shot", 20, 20),
    ):
        got = run(columns_of(nll, one, known), k, mirror=mirror)
        for kind in "PW":
            bins = len(set(got.reason["bin"][got.reason["knowledge"] == kind].tolist()))
            assert least <= bins <= most  # both: half the root of about 100 rows of each kind


def test_knowledge_ratio_divides_the_budget_and_redistributes_the_rest():
    known = ten_rows()["knowledge"]["parametric"]
    assert known[run(ten_rows(), 5, knowledge_ratio="0.8").rows].sum() == 4
    assert known[run(ten_rows(), 5, knowledge_ratio="0").rows].sum() == 0
    beyond = run(ten_rows(), 8, knowledge_ratio="1")
    assert known[beyond.rows].sum() == 4 and len(beyond.rows) == 8
    assert any("asks for 8 P rows and the pool has 4" in note for note in beyond.notes)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("n", "k"), [(600, 200), (2000, 200), (5934, 593), (5934, 1780), (20000, 2000), (20000, 6000)]
)
def test_matches_both_perplexities_better_than_random(n, k, ties):
    """METHODS, must hold: KS distance below the median of 100 random subsets, k >= 200; zero-shot
    and one-shot."""
    nll, one, known = like_real(n, n + k, ties)
    columns = columns_of(nll, one, known)
    random: dict[str, float] = {}  # the pool's perplexities are the same under every setting
    for settings in ({}, {"prefer": "least_helped"}, {"prefer": "none"}):
        got = run(columns, k, **settings)
        for name in ("nll", "nll_one_shot"):
            pool = got.reason[name]
            if name not in random:
                random[name] = ks_of_random_subsets(pool, k, 100)
            assert ks_distance(pool, pool[got.rows]) < random[name], name
        assert abs(known.mean() - (got.reason["knowledge"][got.rows] == "P").mean()) <= 1 / k


def ks_of_random_subsets(pool, k, draws):
    """Median KS distance between `pool` and `draws` random subsets of k rows (one sort of the pool
    for all of them)."""
    order = np.argsort(pool, kind="stable")
    # of equal values: where the CDF is read
    last = np.append(np.flatnonzero(np.diff(pool[order])), len(pool) - 1)
    whole = (last + 1) / len(pool)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        taken = np.zeros(len(pool))
        taken[rng.choice(len(pool), k, replace=False)] = 1 / k
        found.append(np.abs(np.cumsum(taken[order])[last] - whole).max())
    return np.median(found)


def test_fast_ks_distance_equals_ks_distance():
    pool = np.round(like_real(600, 3)[0], 1)  # with ties
    subset = np.random.default_rng(0).choice(len(pool), 200, replace=False)
    assert np.isclose(ks_of_random_subsets(pool, 200, 1), ks_distance(pool, pool[subset]))


def test_matching_only_the_one_shot_perplexity_gives_the_preference_more_room():
    nll, one, known = like_real(5000, 1)
    columns = columns_of(nll, one, known)
    free, both = (run(columns, 500, mirror=m) for m in ("one_shot", "both"))
    pool, rng = free.reason["nll_one_shot"], np.random.default_rng(0)
    random = np.median(
        [ks_distance(pool, rng.choice(pool, 500, replace=False)) for _ in range(100)]
    )
    assert ks_distance(pool, pool[free.rows]) < random / 2
    effect = free.reason["effect"]
    place = np.argsort(np.argsort(effect)) / len(effect)
    critical = {
        m: place[s.reason["critical"]].mean() for m, s in (("one_shot", free), ("both", both))
    }
    assert critical["one_shot"] > 0.6 and 0.5 < critical["both"] < critical["one_shot"]


def test_preference_has_a_direction_and_a_share():
    nll, one, known = like_real(3000, 2)
    columns = columns_of(nll, one, known)
    for mirror in ("both", "one_shot"):
        most, least, none = (
            run(columns, 300, prefer=p, mirror=mirror)
            for p in ("most_helped", "least_helped", "none")
        )
        effect = most.reason["effect"]
        place = np.argsort(np.argsort(effect))
        critical = [place[s.reason["critical"]].mean() for s in (most, least)]
        assert critical[0] > len(effect) / 2 > critical[1]
        assert not none.reason["critical"].any()
        assert abs(most.reason["critical"].sum() - 150) <= 1
    assert abs(run(columns, 300, prefer_share="0.2").reason["critical"].sum() - 60) <= 1
    assert run(columns, 300, prefer_share="0").reason["critical"].sum() == 0


def test_order_is_preferred_rows_then_random_ones():
    nll, one, known = like_real(1000, 3)
    columns = columns_of(nll, one, known)
    for prefer, sign in (("most_helped", -1), ("least_helped", 1)):
        got = run(columns, 100, prefer=prefer)
        critical = got.reason["critical"][got.rows]
        assert critical[: critical.sum()].all()
        assert (np.diff(sign * got.reason["effect"][got.rows[critical]]) >= 0).all()
        assert (np.diff(columns.ties[got.rows[~critical]].astype(float)) > 0).all()


def test_balance_gives_sources_equal_parts_of_each_bin():
    n = 3000
    nll, one, known = like_real(n, 4)
    source = (np.arange(n) % 20 == 0).astype(int)  # 5% of the pool
    columns = columns_of(nll, one, known, source=source)
    plain, even = (
        columns.source[run(columns, 120, balance=b).rows].mean() for b in ("none", "source")
    )
    assert plain < 0.12 and even > 0.4


def test_rows_without_demonstration_use_their_zero_shot_loss():
    columns = ten_rows()
    nothing = np.full(10, np.nan, np.float32)
    columns["one_shot_w"]["nll"][:] = nothing
    only_p = run(columns, 5)
    assert np.allclose(only_p.reason["nll_one_shot"], columns["one_shot_p"]["nll"])
    columns["one_shot_p"]["nll"][:3] = np.nan
    got = run(columns, 5)
    assert (
        np.isnan(got.reason["nll_one_shot"][:3]).all() and np.isnan(got.reason["effect"][:3]).all()
    )
    assert len(got.rows) == 5
    assert any(note.startswith("3 rows have no demonstration") for note in got.notes)


def test_too_long_pairs_and_rows_without_demonstration_are_counted_separately():
    columns = ten_rows()
    columns["demonstration_w"]["digest"][:4] = b""
    columns["one_shot_w"]["nll"][:6] = np.nan  # four have none, two did not fit
    columns["one_shot_p"]["nll"][9] = np.nan
    got = run(columns, 5)
    assert any(
        note.startswith("3 rows were too long together with a demonstration") for note in got.notes
    )
    assert not any("have no demonstration" in note for note in got.notes)  # each has one pass
    assert not any("too long" in note for note in run(ten_rows(), 5).notes)


def test_mean_of_existing_passes():
    nan = np.nan
    got = mean_of_passes(np.array([1.0, nan, 3.0, nan]), np.array([2.0, 5.0, nan, nan]))
    assert np.allclose(got, [1.5, 5.0, 3.0, nan], equal_nan=True) and got.dtype == np.float32


@pytest.mark.parametrize("known", [True, False])
def test_a_pool_of_one_kind(known):
    nll, one, _ = like_real(400, 6)
    got = run(columns_of(nll, one, np.full(400, known)), 120)
    assert len(got.rows) == 120
    assert set(got.reason["knowledge"]) == {"P" if known else "W"}
    assert any("knows every answer" in n if known else "knows none" in n for n in got.notes)


@pytest.mark.parametrize("n", range(1, 51, 7))
def test_tiny_pools(n):
    nll, one, known = like_real(n, n)
    for k in sorted({*range(1, n + 1, max(n // 8, 1)), n - 1 or 1, n}):
        for settings in ({}, {"mirror": "one_shot"}, {"balance": "source"}):
            assert len(np.unique(run(columns_of(nll, one, known), k, **settings).rows)) == k


def test_notes_report_the_ks_distances():
    nll, one, known = like_real(1000, 7)
    got = run(columns_of(nll, one, known), 300)
    zero = ks_distance(got.reason["nll"], got.reason["nll"][got.rows])
    assert any(f"zero-shot {zero:.4f}" in note for note in got.notes)


def test_signals_share_stage_one_between_seeds_and_follow_the_settings():
    method = Clipper(bank=8, long_answer=5)
    first, second = (
        method.signals(MethodContext(MODEL)),
        method.signals(MethodContext(MODEL, seed=1)),
    )
    assert first["loss"] == second["loss"] and first["knowledge"] == second["knowledge"]
    assert first["demonstration_p"] != second["demonstration_p"]
    assert first["knowledge"].long_answer == 5 and first["demonstration_w"].bank == 8
    assert [first[f"demonstration_{k}"].teaches for k in "pw"] == ["P", "W"]
    assert first["one_shot_w"] == OneShot(MODEL, first["demonstration_w"])


def test_zero_shot_loss_is_comparable_with_the_one_shot_loss():
    onevision = ModelIdentity("sha256:0", "llava_onevision", "float32", "pil")
    assert Clipper().signals(MethodContext(onevision))["loss"].among_images
    assert not Clipper().signals(MethodContext(MODEL))["loss"].among_images
