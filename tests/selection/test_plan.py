"""The plan: missing scores and estimated cost, without scoring the pool."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import runs as run
from tests.runs import plan
from tests.text_pools import FirstTies, HighestLoss, Model, Nested, record, write_pool
from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY, FakeBackend
from thresher.console import timing
from thresher.errors import ConfigError
from thresher.methods.clipper import Clipper
from thresher.pools import Pool, open_pool
from thresher.storage.columns import Store
from thresher.types import Budget


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(200)]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_plan_of_an_empty_store_equals_what_select_scores(pool: Pool, store: Store) -> None:
    model = Model()
    p = plan(pool, Nested(), Budget.parse("30%"), model.handle, store)
    assert [(s.label, s.to_score, s.upper_bound) for s in p.signals] == [
        ("loss", 200, False), ("with_small", 200, True), ("with_large", 200, True),
    ]  # fmt: skip
    assert (p.pool_rows, p.budget, p.share, p.saved, p.to_score, p.passes) == (
        200,
        60,
        0.3,
        0.7,
        600,
        600,
    )
    assert (
        p.upper_bound
        and p.tokens == 6000
        and p.signals[0].hours == pytest.approx(200 * 0.01 / 3600)
    )
    assert p.peak_bytes == 1 << 20 and p.basis == "measured on 64 rows"
    assert not store.root.exists()  # the probe is not stored
    run.select(pool, Nested(), Budget.parse("30%"), model=model.handle, store=store)
    assert model.scored == p.passes


def test_plan_of_a_partly_finished_run(pool: Pool, store: Store, tmp_path: Path) -> None:
    run.select(pool, HighestLoss(), Budget.parse("10"), model=Model().handle, store=store)
    p = plan(pool, Nested(), Budget.parse("60"), Model().handle, store)
    assert [(s.label, s.stored, s.to_score, s.upper_bound) for s in p.signals] == [
        ("loss", 200, 0, False), ("with_small", 0, 200, False), ("with_large", 0, 200, False),
    ]  # fmt: skip
    grown = open_pool(
        write_pool(tmp_path / "grown.json", [record(i) for i in range(230)] + [record(3)])
    )
    p = plan(grown, HighestLoss(), Budget.parse("10%"), Model().handle, store)
    assert [(s.needed, s.stored, s.to_score) for s in p.signals] == [
        (230, 200, 30)
    ] and p.budget == 23


def test_finished_run_costs_nothing_and_opens_no_model(pool: Pool, store: Store) -> None:
    run.select(pool, Nested(), Budget.parse("10"), model=Model().handle, store=store)
    model = Model()
    p = plan(pool, Nested(), Budget.parse("40%"), model.handle, store)
    assert (p.to_score, p.tokens, p.hours, p.upper_bound, model.opened) == (0, 0, 0.0, False, 0)


def test_plan_without_probe_counts_words(pool: Pool, store: Store) -> None:
    class Plain:
        """A backend that cannot be measured."""

    model = Model()
    text = plan(pool, HighestLoss(), Budget.parse("10"), model.handle, store, probe=False)
    assert model.opened == 0 and text.hours is None and text.peak_bytes is None
    words = sum(5 + 3 * (i % 7 + 1) for i in range(200)) / 200
    assert (
        text.tokens == pytest.approx(200 * 1.4 * words, rel=0.15)
        and "1.4 tokens a word" in text.basis
    )
    plain = ModelHandle(name="plain", identity=IDENTITY, open=Plain)
    assert plan(pool, HighestLoss(), Budget.parse("10"), plain, store).tokens == text.tokens


def test_without_a_shared_prefix_a_demonstration_doubles_the_row(pool: Pool, store: Store) -> None:
    class Whole(FakeBackend):
        reuses_prefix = False

    p = plan(
        pool,
        Nested(),
        Budget.parse("10"),
        ModelHandle(name="whole", identity=IDENTITY, open=Whole),
        store,
    )
    assert [s.tokens for s in p.signals] == [2000, 4000, 4000]


def test_a_method_without_a_model_costs_nothing(pool: Pool, store: Store) -> None:
    p = plan(pool, FirstTies(), Budget.parse("10%"), None, store)
    assert (p.signals, p.to_score, p.budget, p.model, p.hours) == ((), 0, 20, None, 0.0)


def test_unusable_rows_are_in_the_plan(tmp_path: Path, store: Store) -> None:
    def of(missing: int) -> Any:
        records = [record(i, f"gone{i}.jpg" if i < missing else None) for i in range(100)]
        pool = open_pool(write_pool(tmp_path / f"{missing}.json", records))
        return plan(pool, HighestLoss(), Budget.parse("98"), Model().handle, store)

    assert (of(5).usable_rows, of(5).left_out, of(5).budget) == (95, 5, 95)
    assert any("will be left out" in n for n in of(5).notes) and any(
        "95 rows instead of 98" in n for n in of(5).notes
    )
    assert any("--on-missing exclude" in n for n in of(6).notes)


def test_a_plan_refuses_what_select_refuses(pool: Pool, store: Store) -> None:
    with pytest.raises(ConfigError, match="`model`"):
        plan(pool, HighestLoss(), Budget.parse("10"), None, store)
    with pytest.raises(ConfigError, match="at most 100%"):
        plan(pool, HighestLoss(), Budget.parse("150%"), Model().handle, store)


def test_a_budget_above_the_pool_is_all_of_it(pool: Pool, store: Store) -> None:
    p = plan(pool, HighestLoss(), Budget.parse("1000"), Model().handle, store)
    assert p.budget == 200 and any("more than the pool has (200 rows)" in n for n in p.notes)


def test_a_plan_is_plain_json(pool: Pool, store: Store) -> None:
    p = plan(pool, Nested(), Budget.parse("30%"), Model().handle, store)
    data = json.loads(json.dumps(p.to_json()))
    assert (
        data["signals"][0]["label"] == "loss"
        and data["saved"] == 0.7
        and data["method"] == "nested"
    )


def test_one_shot_cost_is_the_measured_one(
    pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))

    class Slow(FakeBackend):
        """Alone a row takes 0.01 s (`probe`); behind a demonstration the clock moves by 2 ms."""

        def one_shot(self, samples: Any, demonstrations: Any, pool: Any) -> Any:
            nonlocal now
            now += 0.002 * len(samples)
            return super().one_shot(samples, demonstrations, pool)

    p = plan(
        pool,
        Clipper(bank=8),
        Budget.parse("30%"),
        ModelHandle(name="slow", identity=IDENTITY, open=Slow),
        store,
    )
    by_label = {s.label: s for s in p.signals}
    hours = [by_label[label].hours for label in ("loss", "one_shot_p", "one_shot_w")]
    displayed = 200 * 0.002 + 2 * 8 * 0.01  # its rows, and the bank of each half, encoded once
    assert hours[0] == pytest.approx(200 * 0.01 / 3600)
    assert hours[1:] == [pytest.approx(displayed / 3600)] * 2
    assert by_label["one_shot_p"].tokens == 10 * (200 + 2 * 8)


def test_several_devices_share_the_scoring(pool: Pool, store: Store) -> None:
    one = plan(pool, HighestLoss(), Budget.parse("30%"), Model().handle, store)
    ray = {"engine": "ray", "ray_workers": 4}
    four = plan(pool, HighestLoss(), Budget.parse("30%"), Model().handle, store, **ray)
    assert (one.devices, four.devices) == (1, 4) and one.hours is not None
    assert one.hours == pytest.approx(200 * 0.01 / 3600) and one.least_hours == one.hours
    assert four.hours == pytest.approx(one.hours / 4)
    # an epoch over the 140 rows left out, three times a scored row, on four devices, too
    assert one.saving.per_epoch == pytest.approx(3 * 140 * 0.01)
    assert four.saving.per_epoch == pytest.approx(3 * 140 * 0.01 / 4)
    assert four.saving.trainings == one.saving.trainings
