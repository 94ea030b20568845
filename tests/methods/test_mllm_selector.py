"""MLLM-Selector on synthetic columns: ten rows by hand, limits of alpha, held-back rows, and
signals."""

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from thresher.backends import ModelHandle
from thresher.engine import RunContext
from thresher.engine.graph import signals_of
from thresher.errors import ConfigError
from thresher.methods import load
from thresher.methods.mllm_selector import MllmSelector
from thresher.signals.seed_rows import SeedRows
from thresher.storage.columns import Store
from thresher.types import Columns, MethodContext, ModelIdentity, TrainedModel, seeded_ties

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")


def columns(necessity, seed_rows, source=None, ties=None):
    n = len(necessity)
    chosen = np.zeros(n, bool)
    chosen[seed_rows] = True
    values = {
        "seed_rows": {"chosen": chosen},
        "necessity": {"nll": np.asarray(necessity, np.float32)},
    }
    source = np.zeros(n, np.int32) if source is None else np.asarray(source, np.int32)
    ties = np.arange(n, dtype=np.uint64) if ties is None else np.asarray(ties, np.uint64)
    return Columns(np.sort(digests(n)), ties, source, ("a", "b"), values)


def select(method, columns, k):
    return method.select(columns, k)


def test_ten_rows_by_hand():
    """
    row        0    1    2    3    4    5    6    7    8    9
    necessity  0.1  0.9  0.5  3.0  0.2  0.8  0.3  9.0  0.4  0.7      row 0 is the seed row
    source     a    a    a    a    a    b    b    a    b    b

    90th percentile of the ten = 3.0 + 0.1 · 6.0 = 3.6, so row 7 is held. The eight free rows by
    necessity:
    4 (0.2) 6 (0.3) | 8 (0.4) 2 (0.5) | 9 (0.7) 5 (0.8) | 1 (0.9) 3 (3.0)      four groups, 0 … 3
    Five rows are left. alpha = 3 ln 2: the weights are 1 : 2 : 4 : 8. Group 3 is due 5 · 8/15 =
    2.67 and gives its 2; of the other 3, group 2 is due 3 · 4/7 = 1.71, group 1 0.86, group 0 0.43:
    whole parts 1, 0, 0; the two rows left go to the largest remainders, 0.86 (group 1) and 0.71
    (group 2). So 2, 2, 1, 0 rows. Group 1 has 8 (b) and 2 (a): the first in the seeded order is 2.
    """
    method = MllmSelector(groups=4, alpha=3 * np.log(2), max_percentile=90.0)
    necessity = [0.1, 0.9, 0.5, 3.0, 0.2, 0.8, 0.3, 9.0, 0.4, 0.7]
    out = select(method, columns(necessity, [0], [0, 0, 0, 0, 0, 1, 1, 0, 1, 1]), 6)
    assert out.rows.tolist() == [3, 1, 5, 9, 2, 0]  # by necessity
    assert out.reason["group"].tolist() == [-1, 3, 1, 3, 0, 2, 0, -1, 1, 2]
    assert np.flatnonzero(out.reason["seed_row"]).tolist() == [0]
    assert np.flatnonzero(out.reason["held"]).tolist() == [7]
    assert out.reason["seed_row"].dtype == out.reason["held"].dtype == bool
    assert out.notes[0] == "The seed model was trained on 1 of the selected rows."
    assert out.notes[1].startswith(
        "1 rows above the 90th percentile of necessity (3.60 nats) are held back"
    )


def test_sources_share_a_group():
    """One group of rows 1 … 6; four places; the source b has two rows: both are taken."""
    out = select(
        MllmSelector(groups=1, max_percentile=100),
        columns([0, 1, 2, 3, 4, 5, 6], [0], [0, 0, 0, 0, 0, 1, 1]),
        5,
    )
    assert sorted(out.rows.tolist()) == [0, 1, 2, 5, 6]
    plain = select(
        MllmSelector(groups=1, max_percentile=100, balance="none"),
        columns([0, 1, 2, 3, 4, 5, 6], [0], [0] * 5 + [1] * 2),
        5,
    )
    assert sorted(plain.rows.tolist()) == [0, 1, 2, 3, 4]


@pytest.fixture
def planted():
    rng = np.random.default_rng(1)
    n = 2000
    ties = seeded_ties(np.sort(digests(n)), 0)
    seeds = np.argsort(ties)[:60]
    return columns(rng.gamma(1, 1, n), seeds, np.arange(n) % 2, ties)


def test_alpha_zero_takes_the_same_from_every_group(planted):
    out = select(MllmSelector(alpha=0), planted, 315)
    group = out.reason["group"][out.rows]
    assert (group == -1).sum() == 60
    count = np.bincount(group[group >= 0], minlength=10)
    assert count.sum() == 255 and set(count.tolist()) == {25, 26}


def test_large_alpha_is_top_k_by_necessity(planted):
    out = select(MllmSelector(alpha=1e6), planted, 315)
    reason = out.reason
    free = np.flatnonzero(~reason["seed_row"] & ~reason["held"])
    best = free[np.argsort(-reason["necessity"][free])][:255]
    assert set(out.rows.tolist()) == set(best.tolist()) | set(
        np.flatnonzero(reason["seed_row"]).tolist()
    )


def test_exhausted_group_passes_its_quota_on(planted):
    out = select(MllmSelector(alpha=6), planted, 1060)
    group = out.reason["group"]
    count, size = (np.bincount(g[g >= 0], minlength=10) for g in (group[out.rows], group))
    assert (
        len(out.rows) == 1060
        and (count[7:] == size[7:]).all()
        and (np.diff(count) >= -1).all()
        and count[0] < 60
    )


def test_rows_above_the_percentile_are_held_back(planted):
    out = select(MllmSelector(max_percentile=95), planted, 600)
    held, necessity = out.reason["held"], out.reason["necessity"]
    assert 90 <= held.sum() <= 100  # 5% of 2,000, less the seed rows among them
    assert not held[out.rows].any()
    limit = np.percentile(necessity, 95)
    assert (held == ((necessity > limit) & ~out.reason["seed_row"])).all()
    assert any(f"{held.sum():,} rows above the 95th percentile" in note for note in out.notes)
    assert not select(MllmSelector(max_percentile=100), planted, 600).reason["held"].any()


def test_held_rows_are_used_last(planted):
    out = select(MllmSelector(max_percentile=95), planted, 1950)
    held, necessity = out.reason["held"], out.reason["necessity"]
    back = out.rows[held[out.rows]]
    assert len(out.rows) == 1950 and len(back) == held.sum() - 50
    assert necessity[back].max() <= np.sort(necessity[held])[: len(back)].max()
    assert any("rows held back are taken nevertheless" in note for note in out.notes)


# --------------------------------------------------------------------------- which signals it needs


@pytest.mark.parametrize(
    ("budget", "seeds"), [(30, 10), (100, 33), (150, 50), (400, 50), (1, 1), (2, 1)]
)
def test_seed_rows_are_five_percent_and_at_most_a_third(budget, seeds):
    signals = MllmSelector().signals(MethodContext(MODEL, seed=7, budget=budget))
    pool = columns(np.zeros(1000), [])
    chosen = signals["seed_rows"].pool(pool)["chosen"]
    assert chosen.dtype == bool and chosen.sum() == seeds
    first = np.argsort(seeded_ties(pool.digest, 7), kind="stable")[:seeds]
    assert set(first.tolist()) == set(np.flatnonzero(chosen).tolist())


def test_necessity_is_the_loss_under_a_trained_model(tmp_path):
    method = load("mllm_selector", {"epochs": "2", "learning_rate": "1e-4"})
    for signals in (
        method.signals(MethodContext(MODEL, seed=3)),
        method.signals(MethodContext(MODEL, seed=3, budget=30)),
    ):
        model = signals["necessity"].model
        assert (
            isinstance(model, TrainedModel)
            and model.base == MODEL
            and model.rows == signals["seed_rows"]
        )
        assert (model.recipe.epochs, model.recipe.learning_rate, model.recipe.seed) == (
            2.0,
            1e-4,
            3,
        )
        assert dict(signals["necessity"].inputs()) == {"trained_on": signals["seed_rows"]}
    assert method.signals(MethodContext(MODEL, seed=3))["seed_rows"] == SeedRows(0.05, 3)
    context = RunContext(Store(tmp_path), ModelHandle("model", MODEL, open=lambda: None))
    assert signals_of(method, context, 3, 30)["seed_rows"] == SeedRows(0.05, 3, 10)


@pytest.mark.parametrize(
    "settings",
    [
        {"seed_fraction": "0"},
        {"seed_fraction": "5"},
        {"alpha": "-1"},
        {"groups": "0"},
        {"max_percentile": "0"},
        {"max_percentile": "101"},
        {"epochs": "0"},
        {"learning_rate": "-1"},
    ],
)
def test_impossible_settings(settings):
    with pytest.raises(ConfigError, match=f'settings={{"{next(iter(settings))}": '):
        load("mllm_selector", settings)
