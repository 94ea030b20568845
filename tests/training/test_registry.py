"""Models that thresher trains: their losses are a column that is computed once, resumable and
planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import runs as run
from tests.fake_training import FakeTraining
from tests.runs import compute, plan
from tests.text_pools import Model, record, write_pool
from thresher.backends.fake import IDENTITY
from thresher.engine import RunContext
from thresher.engine.graph import signals_of
from thresher.errors import ModelError, StoreError
from thresher.fingerprint import fingerprint
from thresher.methods.mllm_selector import MllmSelector
from thresher.pools import Pool, open_pool
from thresher.selection import folder as output
from thresher.selection import training_cost
from thresher.selection.cost_lines import cost_lines
from thresher.selection.result import Outcome
from thresher.selection.signals_table import signals_table
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.seed_rows import SeedRows
from thresher.storage.columns import Store
from thresher.storage.mirrored import MirroredStore
from thresher.storage.remote_folder import RemoteFolder
from thresher.training.recipe import Recipe
from thresher.types import Budget, TrainedModel


def pool_of(folder: Path, n: int, start: int = 0, name: str = "pool.json") -> Pool:
    return open_pool(write_pool(folder / name, [record(i) for i in range(start, start + n)]))


@pytest.fixture
def training(tmp_path: Path) -> FakeTraining:
    return FakeTraining(tmp_path / "trainings")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def select(
    pool: Pool, store: Store, training: FakeTraining, budget: str = "30%", **more: Any
) -> Outcome:
    method = more.pop("method", MllmSelector())
    model = more.pop("model", None) or Model()
    return run.select(
        pool,
        method,
        Budget.parse(budget),
        model=model.handle,
        store=store,
        trainer=training.trainer,
        **more,
    )


def test_it_is_trained_once_on_the_seed_rows(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool, base = pool_of(tmp_path, 400), Model()
    out = select(pool, store, training, model=base)
    seeds = out.rows[out.reason["seed_row"]]
    assert len(out.rows) == 120 and len(seeds) == 20
    (call,) = training.calls()
    assert (call["base"], call["rows"], call["sum"], call["seed"]) == (
        "fake",
        20,
        int(seeds.sum()),
        0,
    )
    assert base.opened == 0  # the base is not asked about anything
    assert [(s.label, s.needed, s.scored) for s in out.signals] == [("necessity", 400, 400)]
    (trained,) = out.trainings
    assert (trained.rows, trained.label) == (20, "necessity") and trained.seconds >= 0.2
    assert (store.root / "models" / trained.fingerprint / "model.json").exists()
    assert out.cost >= trained.seconds
    assert "necessity: a model was trained on 20 rows, 0.2 s" in cost_lines(out)

    again = select(pool, store, training)
    assert again.rows.tolist() == out.rows.tolist() and [s.scored for s in again.signals] == [0]
    assert len(training.calls()) == 1
    # reused, and still what it costs
    assert again.trainings == out.trainings and again.cost >= trained.seconds


def test_machines_that_share_an_address_train_once(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pytest.importorskip("fsspec")
    pool = pool_of(tmp_path, 400)
    local = select(pool, store, training)
    one, two, three = (
        MirroredStore(RemoteFolder(f"memory://{tmp_path.name}"), tmp_path / name)
        for name in ("one", "two", "three")
    )
    first = select(pool, one, training)
    again = select(pool, two, training)
    assert len(training.calls()) == 2  # one for each store
    assert first.rows.tolist() == again.rows.tolist() == local.rows.tolist()
    assert [s.scored for s in again.signals] == [0] and again.trainings == first.trainings
    (trained,) = first.trainings
    model = Path("models") / trained.fingerprint / "model.json"
    assert not (two.root / model).exists()  # its scores are all there is need of
    three.share_model(trained.fingerprint)
    assert (three.root / model).read_bytes() == (one.root / model).read_bytes()


def test_arithmetic_settings_do_not_retrain(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 400)
    for method in (
        MllmSelector(),
        MllmSelector(alpha=0, groups=4, max_percentile=90, balance="none"),
    ):
        for budget in ("60", "100", "50%"):  # a third of each is at least the 20 seed rows
            select(pool, store, training, budget, method=method)
    assert len(training.calls()) == 1
    select(pool, store, training, "30")  # 10 seed rows
    select(pool, store, training, seed=1)
    select(pool, store, training, method=MllmSelector(epochs=2))
    assert [c["rows"] for c in training.calls()] == [20, 10, 20, 20]


def test_another_pool_is_another_model(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    """Equal declarations with different rows: the scores of one must not be used for the other."""
    a, b = pool_of(tmp_path, 100, name="a.json"), pool_of(tmp_path, 100, start=50, name="b.json")
    first, second = (select(pool, store, training) for pool in (a, b))
    assert first.signals[0].fingerprint != second.signals[0].fingerprint
    assert [s.scored for s in second.signals] == [100] and len(training.calls()) == 2
    shuffled = write_pool(tmp_path / "c.json", [record(i) for i in reversed(range(100))])
    third = select(open_pool(shuffled), store, training)
    assert (
        third.signals[0].fingerprint == first.signals[0].fingerprint and len(training.calls()) == 2
    )


def test_partly_scored_run_resumes_without_training(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 200)
    select(pool, store, training)
    folder = next((store.root / "columns").iterdir())
    (part,) = folder.glob("part-*.parquet")
    pq.write_table(pq.read_table(part).slice(0, 120), part)
    again = select(pool, store, training)
    assert [(s.needed, s.scored) for s in again.signals] == [(200, 80)] and training.asked == 1


def test_scores_stay_when_the_model_is_deleted(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 100)
    out = select(pool, store, training)
    folder = store.root / "models" / out.trainings[0].fingerprint
    (folder / "model.json").unlink()
    folder.rmdir()
    assert select(pool, store, training).rows.tolist() == out.rows.tolist()
    assert len(training.calls()) == 1


def test_unfinished_training_is_resumed(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    """A folder without its record: `fit` is called with the same folder again, and resumes."""

    class Broken(FakeTraining):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            super().fit(*args, **kwargs)
            raise KeyboardInterrupt

    pool = pool_of(tmp_path, 100)
    with pytest.raises(KeyboardInterrupt):
        select(pool, store, Broken(training.log))
    p = plan(pool, MllmSelector(), Budget.parse("30%"), Model().handle, store)
    assert len(p.trainings) == 1
    select(pool, store, training)
    assert len(training.calls()) == 1  # the folder is the same one, where `fit` found its own work
    assert plan(pool, MllmSelector(), Budget.parse("30%"), Model().handle, store).trainings == ()


def test_the_plan_says_that_a_model_will_be_trained(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 400)
    p = plan(pool, MllmSelector(epochs=2), Budget.parse("30%"), Model().handle, store)
    (t,) = p.trainings
    assert (t.rows, t.passes) == (20, 2.0)
    assert t.hours == pytest.approx(3 * 2 * 20 * 0.01 / 3600) and p.hours == pytest.approx(
        t.hours + 400 * 0.01 / 3600
    )
    assert [(s.label, s.to_score, s.upper_bound) for s in p.signals] == [("necessity", 400, False)]
    assert (
        p.tokens == 4000
    )  # the training rows are not demonstrations: a row's length does not change
    assert any(
        "A model will be trained first, on 20 rows (5.0% of the pool, 2 passes" in note
        for note in p.notes
    )
    assert not store.root.exists()
    out = select(pool, store, training, method=MllmSelector(epochs=2))
    assert p.signals[0].fingerprint == out.signals[0].fingerprint
    done = plan(pool, MllmSelector(epochs=2), Budget.parse("30%"), Model().handle, store)
    assert done.trainings == () and done.to_score == 0 and not done.notes


def test_a_plan_tries_a_training_on_some_rows(
    tmp_path: Path, store: Store, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(training_cost, "time", SimpleNamespace(perf_counter=lambda: now))

    def import_packages() -> None:
        nonlocal now
        now += 0.5

    pool, method = pool_of(tmp_path, 2000), MllmSelector(epochs=2)
    trainer = replace(training.trainer, import_packages=import_packages)
    p = plan(pool, method, Budget.parse("30%"), Model().handle, store, trainer=trainer)
    (t,), (call,) = p.trainings, training.calls()
    # 64 of its 100 rows in one pass; the fake training says 0.01 s a row
    assert (t.rows, call["rows"], call["base"]) == (100, 64, "fake")
    assert t.measured and t.hours is not None
    assert 3600 * t.hours == pytest.approx(0.5 + 100 * 2 * 0.01)
    assert t.peak_bytes is not None and t.peak_bytes == p.peak_bytes
    assert p.scoring_bytes == 1 << 20  # what the fake model says
    assert not list((store.root / "models").iterdir())
    assert any("2 passes, about" in n and "three times" not in n for n in p.notes)


def test_a_training_that_fails_is_in_the_plan(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    def fit(*args: Any, **options: Any) -> Any:
        raise ModelError("Training runs out of memory on cuda.")

    trainer = replace(training.trainer, fit=fit, import_packages=lambda: None)
    method = MllmSelector()
    p = plan(
        pool_of(tmp_path, 400), method, Budget.parse("30%"), Model().handle, store, trainer=trainer
    )
    assert any("failed: Training runs out of memory on cuda." in n for n in p.notes)
    (t,) = p.trainings
    assert not t.measured and t.hours == pytest.approx(3 * 20 * 0.01 / 3600)


def test_a_selection_is_written_and_its_scores_are_read_back(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 90)
    out = select(pool, store, training, "20")
    output.write(out, pool, None, tmp_path / "out")
    assert output.read(tmp_path / "out")["trained_models"] == [
        {"label": "necessity", "fingerprint": out.trainings[0].fingerprint, "rows": 4}
    ]
    table = signals_table(tmp_path / "out")
    necessity = table["necessity.nll"].to_numpy()
    assert np.allclose(necessity[out.rows], out.reason["necessity"])
    assert table["seed_rows.chosen"].to_numpy().sum() == 4
    for part in (store.root / "columns").glob("*/part-*.parquet"):
        part.unlink()
    with pytest.raises(StoreError, match="no longer in the store"):
        signals_table(tmp_path / "out")
    assert len(training.calls()) == 1


def test_the_column_is_the_trained_models(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    """Base, recipe and rows are each part of what the column is called; `compute` gives it like any
    other."""
    pool = pool_of(tmp_path, 60)
    rows = SeedRows(0.2, 0)
    seen = {fingerprint(AnswerLoss(IDENTITY))}
    for model in (
        TrainedModel(IDENTITY, Recipe(), rows),
        TrainedModel(IDENTITY, Recipe(epochs=2), rows),
        TrainedModel(IDENTITY, Recipe(), SeedRows(0.2, 1)),
    ):
        column = compute(
            AnswerLoss(model), pool, store=store, model=Model().handle, trainer=training.trainer
        )
        assert column.known.all() and (column.values["nll"] > 0).all()
        seen |= {p.name for p in (store.root / "columns").iterdir()}
    assert len(seen) == 4 and len(training.calls()) == 3


def test_budget_is_passed_to_signals(store: Store) -> None:
    context = RunContext(store, Model().handle)
    assert signals_of(MllmSelector(), context, 0, 30)["seed_rows"] == SeedRows(0.05, 0, 10)
