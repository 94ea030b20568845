"""winnow from a pool to a selection: one pass per row, skills once, and the guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runs as run
from tests.fake_training import FakeTraining
from tests.sighted_models import Blind, Sighted, with_images
from tests.text_pools import Model, record, write_pool
from thresher.backends import ModelHandle, resolve
from thresher.backends.fake import IDENTITY, FakeBackend, Measured
from thresher.demo.pool import make_pool
from thresher.methods import load
from thresher.pools import Pool, open_pool
from thresher.selection import folder as output
from thresher.selection.result import Outcome
from thresher.selection.signals_table import signals_table
from thresher.storage.columns import Store
from thresher.types import Budget, ModelIdentity, Sample


@pytest.fixture
def training(tmp_path: Path) -> FakeTraining:
    return FakeTraining(tmp_path / "trainings")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def pool_of(folder: Path, n: int, first: int = 0) -> Pool:
    return open_pool(write_pool(folder / "pool.json", [record(i) for i in range(first, n)]))


def select(
    pool: Pool, store: Store, training: FakeTraining, budget: str = "30%", **more: Any
) -> Outcome:
    settings = more.pop("settings", {})
    return run.select(
        pool,
        load("winnow", settings),
        Budget.parse(budget),
        model=more.pop("model", Model()).handle,
        store=store,
        trainer=training.trainer,
        **more,
    )


def test_one_pass_per_row_and_reuse_for_another_budget_and_seed(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool, model = pool_of(tmp_path, 300), Model()
    off = {"guard": "off", "trust": "base"}
    out = select(pool, store, training, model=model, settings=off)
    assert len(out.rows) == 90 and training.calls() == []
    assert {r.label: (r.needed, r.scored) for r in out.signals} == {
        "loss": (300, 300),
        "skills.question": (300, 300),
        "skills.answer": (300, 300),
    }
    assert len(np.unique(out.evidence["skill"])) == 10
    assert out.evidence["trusted"].sum() == pytest.approx(150, abs=10)
    again = select(pool, store, training, "5%", model=model, settings=off, seed=9)
    assert [(r.label, r.scored) for r in again.signals] == [("loss", 0)]  # no vector is loaded
    assert (again.evidence["skill"] == out.evidence["skill"]).all()


def test_all_columns_can_be_written_where_skills_were_stored_before(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool, off = pool_of(tmp_path, 60), {"guard": "off"}
    for budget in ("30%", "50%"):
        out = select(pool, store, training, budget, settings=off)
        output.write(out, pool, None, tmp_path / budget)
        table = signals_table(tmp_path / budget)
        assert {"loss.nll", "skills.question.vector", "skills.leaf"} <= set(table.schema.names)


def test_the_file_order_does_not_matter(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    taken = []
    for name, order in (("a", range(200)), ("b", reversed(range(200)))):
        (tmp_path / name).mkdir()
        path = write_pool(tmp_path / name / "pool.json", [record(i) for i in order])
        pool = open_pool(path)
        out = select(pool, Store(tmp_path / name / "store"), training, settings={"guard": "off"})
        taken.append([pool.digest[r] for r in out.rows.tolist()])
    assert taken[0] == taken[1]


def test_guard_trains_twice_and_its_verdict_is_stored(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 300)
    out = select(pool, store, training, settings={"guard": "on"})
    assert [call["rows"] for call in training.calls()] == [90, 90]
    asked = {r.label: (r.needed, r.scored) for r in out.signals}
    assert asked["guard.selected"] == asked["guard.random"] == (60, 60)
    assert any(note.startswith("The guard trained a model") for note in map(str, out.notes))
    again = select(pool, store, training, settings={"guard": "on"})
    assert len(training.calls()) == 2 and again.rows.tolist() == out.rows.tolist()
    assert all(r.scored == 0 for r in again.signals)


@pytest.mark.parametrize("distinct", [1, 2, 20])
def test_the_guard_is_skipped_on_copies_of_few_rows(
    tmp_path: Path, store: Store, training: FakeTraining, distinct: int
) -> None:
    records = [record(i % distinct) | {"id": f"r{i}"} for i in range(40)]
    pool = open_pool(write_pool(tmp_path / "pool.json", records))
    on = {"guard": "on"}
    made = run.plan(
        pool, load("winnow", on), Budget.parse("30%"), Model().handle, store, probe=False
    )
    assert made.trainings == () and not any("trained" in note for note in made.notes)
    out = select(pool, store, training, settings=on)
    assert len(out.rows) == 12 and training.calls() == [] and out.trainings == []
    assert any(note.text.startswith("The guard is skipped") for note in out.notes)
    assert not any("The guard trained" in note for note in map(str, out.notes))


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_seed_models_of_copies_of_few_rows(
    tmp_path: Path, store: Store, training: FakeTraining, distinct: int
) -> None:
    records = [record(i % distinct) | {"id": f"r{i}"} for i in range(40)]
    pool = open_pool(write_pool(tmp_path / "pool.json", records))
    out = select(pool, store, training, settings={"trust": "seed", "guard": "on"})
    assert len(out.rows) == 12 and np.isfinite(out.evidence["seed_loss"]).all()


def test_seed_models_are_trained_on_different_rows(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 400)
    out = select(pool, store, training, settings={"guard": "off", "trust": "seed"})
    first, second = training.calls()
    assert first["rows"] == second["rows"] == 100 and first["sum"] != second["sum"]
    asked = {r.label: r.scored for r in out.signals}
    assert asked["trust.first"] == 400 and asked["trust.second"] == 100
    assert np.isfinite(out.evidence["seed_loss"]).all()


def test_a_second_round_trains_on_trusted_rows(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool, rounds = pool_of(tmp_path, 400), {"guard": "off", "trust": "base", "rounds": "2"}
    args = (pool, load("winnow", rounds), Budget.parse("30%"), Model().handle, store)
    made = run.plan(*args, probe=False)
    planned = {p.label: (p.needed, p.upper_bound) for p in made.signals}
    # which rows are trained on is not known yet, so the model that scores the others is not either
    assert planned["round2.first"] == (400, True) and planned["round2.second"] == (100, True)
    assert [(t.rows, t.upper_bound) for t in made.trainings] == [(100, False)] * 2
    assert any("2 models will be trained first, each on 100 rows" in n for n in made.notes)
    out = select(pool, store, training, settings=rounds)
    first, second = training.calls()  # of a half, slightly fewer are trusted
    assert 95 <= second["rows"] <= first["rows"] <= 100 and first["sum"] != second["sum"]
    asked = {r.label: r.scored for r in out.signals}
    assert asked["round2.first"] == 400 and asked["round2.second"] == first["rows"]
    assert [t.rows for t in out.trainings] == [first["rows"], second["rows"]]
    assert np.isfinite(out.evidence["round_loss"]).all()
    again = select(pool, store, training, "5%", settings=rounds)  # trains nothing
    assert len(training.calls()) == 2 and all(s.scored == 0 for s in again.signals)
    done = run.plan(*args, probe=False)
    assert done.to_score == 0 and done.trainings == () and done.notes == ()


class Writer(Model):
    """Names a skill by the number in its first typical question, and one of them badly."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    @property
    def handle(self) -> ModelHandle:
        identity = ModelIdentity("fake:writer", "fake", "float32", "pil")
        return ModelHandle("writer", identity, lambda: FakeBackend(writes=self.write))

    def write(self, sample: Sample) -> str:
        self.told.append(sample.turns[0].text)
        number = sample.turns[0].text.split("What is ")[1].split()[0]
        return "no" if len(self.told) == 1 else f"adding number n{number} twice"


@pytest.mark.parametrize("images", [False, True])
def test_a_model_names_each_skill_once(
    tmp_path: Path, store: Store, training: FakeTraining, images: bool
) -> None:
    pool = with_images(tmp_path, 200) if images else pool_of(tmp_path, 200)
    writer, settings = Writer(), {"guard": "off", "trust": "base", "names": "writer"}
    made = run.plan(
        pool,
        load("winnow", settings),
        Budget.parse("30%"),
        Model().handle,
        store,
        probe=False,
        roles={"names": writer.handle},
    )
    (planned,) = [p for p in made.signals if p.label == "names"]
    assert planned.needed == 6 and planned.upper_bound
    out = select(pool, store, training, settings=settings, roles={"names": writer.handle})
    skills = len(np.unique(out.evidence["skill"]))
    assert len(writer.told) == skills == 6
    assert all("Words that set them apart" in text for text in writer.told)
    labels = {str(text) for text in out.evidence["skill_words"].tolist()}
    named = {text for text in labels if text.startswith("adding number n")}
    assert len(labels) == 6 and len(named) == 5
    assert any("1 of 6 skills got no name" in note for note in map(str, out.notes))
    plain = select(pool, store, training, settings={"guard": "off", "trust": "base"})
    assert plain.rows.tolist() == out.rows.tolist()
    assert not named & set(plain.evidence["skill_words"].tolist())
    again = select(pool, store, training, "5%", settings=settings, roles={"names": writer.handle})
    assert len(writer.told) == 6 and all(s.scored == 0 for s in again.signals)


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_rounds_on_copies_of_few_rows(
    tmp_path: Path, store: Store, training: FakeTraining, distinct: int
) -> None:
    records = [record(i % distinct) | {"id": f"r{i}"} for i in range(40)]
    pool = open_pool(write_pool(tmp_path / "pool.json", records))
    out = select(pool, store, training, settings={"rounds": "3", "guard": "off"})
    assert len(out.rows) == 12 and np.isfinite(out.evidence["round_loss"]).all()


def test_a_plan_prices_rows_without_images_and_parts_of_the_pool(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    class Timed(FakeBackend):
        """A row takes 10 ms and ten tokens, without its images 2 ms and three tokens."""

        reuses_prefix = False  # a demonstration would be encoded again with each row

        def probe(self, samples: Any, pool: Any) -> Measured:
            if any(sample.images for sample in samples):
                return Measured(0.01 * len(samples), 10 * len(samples), 1 << 20)
            return Measured(0.002 * len(samples), 3 * len(samples), 1 << 20)

        def one_shot(self, *args: Any) -> Any:
            raise AssertionError("no signal of winnow uses demonstrations")

    handle = ModelHandle("fake", IDENTITY, Timed)
    method = load("winnow", {"guard": "off"})
    made = run.plan(with_images(tmp_path, 200), method, Budget.parse("30%"), handle, store)
    by_label = {p.label: p for p in made.signals}
    bare, seed = by_label["judgement.without_image"], by_label["trust.seed.first"]
    assert bare.hours == pytest.approx(100 * 0.002 / 3600)
    assert (bare.tokens, bare.images) == (300, False)
    assert seed.hours == pytest.approx(100 * 0.01 / 3600) and seed.tokens == 1000
    # what is needed in any case, and with the two seed models
    assert bare.conditional is False and seed.conditional is True
    assert made.hours is not None and made.least_hours is not None
    second = by_label["trust.seed.second"].to_score
    trainings = 2 * 3 * 50 * 0.01
    more = (100 + second) * 0.01 + trainings
    assert made.hours - made.least_hours == pytest.approx(more / 3600)


@pytest.mark.parametrize(("eyes", "seeds"), [(Sighted, False), (Blind, True)])
def test_seed_models_are_trained_where_images_do_not_help(
    tmp_path: Path, store: Store, training: FakeTraining, eyes: type[FakeBackend], seeds: bool
) -> None:
    pool = with_images(tmp_path, 200)
    handle = ModelHandle("fake", IDENTITY, eyes)
    args = (pool, load("winnow", {"guard": "off"}), Budget.parse("30%"), handle, store)
    made = run.plan(*args, probe=False)
    planned = {p.label: (p.needed, p.upper_bound) for p in made.signals}
    assert planned["judgement.without_image"] == (100, False)
    assert planned["trust.seed.first"] == (100, True)  # rows with an image
    assert 0 < planned["trust.seed.second"][0] < 50 and planned["trust.seed.second"][1]
    assert [(t.rows, t.upper_bound) for t in made.trainings] == [(50, True), (50, True)]
    assert any("At most 2 models will be trained, if the scores call" in n for n in made.notes)
    out = run.select(
        pool,
        load("winnow", {"guard": "off"}),
        Budget.parse("30%"),
        model=handle,
        store=store,
        trainer=training.trainer,
    )
    assert [call["rows"] for call in training.calls()] == [50, 50] * seeds
    asked = {r.label: (r.needed, r.scored) for r in out.signals}
    assert asked["judgement.without_image"] == (100, 100)
    assert asked["trust.seed.first"] == ((100, 100) if seeds else (0, 0))
    assert ("seed_loss" in out.evidence) == seeds
    if seeds:
        assert np.isfinite(out.evidence["seed_loss"]).sum() == 100
    assert len(out.trainings) == 2 * seeds
    text = f"more likely in {'only 0%' if seeds else '100%'} of 100 rows"
    assert text in next(n for n in map(str, out.notes) if n.startswith("trust=auto"))
    done = run.plan(*args, probe=False)
    assert done.to_score == 0 and done.trainings == () and done.notes == ()


def test_a_plan_counts_one_pass_and_the_trainings(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool, model = pool_of(tmp_path, 300), Model()
    args = (pool, load("winnow", {"guard": "on"}), Budget.parse("30%"), model.handle, store)
    made = run.plan(*args, probe=False)
    own = [p for p in made.signals if not p.label.startswith("guard")]
    assert sum(p.passes for p in own) == 300
    guard = [p for p in made.signals if p.label.startswith("guard")]
    assert len(guard) == 2
    assert [(p.needed, p.upper_bound) for p in guard] == [(60, True), (60, False)]
    assert [t.rows for t in made.trainings] == [90, 90]
    (note,) = [note for note in made.notes if "trained" in note]
    assert note.startswith("2 models will be trained first, each on 90 rows (30.0% of the pool")
    select(pool, store, training, settings={"guard": "off"})  # scores what the guard reads
    (note,) = [note for note in run.plan(*args, probe=False).notes if "trained" in note]
    assert note.startswith("2 models will be trained first, each on 90 rows")
    select(pool, store, training, settings={"guard": "on"})
    done = run.plan(*args, probe=False)
    assert done.to_score == 0 and done.trainings == ()


@pytest.mark.slow
def test_seed_models_are_really_trained(tmp_path: Path, store: Store) -> None:
    """The built-in model on its own pool: both losses of a row are known, the trainings are kept,
    and another budget repeats neither."""
    pool = open_pool(make_pool(tmp_path / "pool", rows=240, house_style=True))
    model = resolve("demo", device="cpu", cache=store.root / "models")
    method = load("winnow", {"guard": "off", "trust": "seed"})
    runs = [
        run.select(pool, method, Budget.parse(budget), model=model, store=store)
        for budget in ("20%", "40%")
    ]
    first, second = (out.evidence for out in runs)
    assert np.isfinite(first["seed_loss"]).all()
    assert (first["seed_loss"] != first["loss"]).mean() > 0.9
    assert [t.rows for t in runs[0].trainings] == [t.rows for t in runs[1].trainings]
    assert all(s.scored == 0 for s in runs[1].signals)
    assert (first["seed_loss"] == second["seed_loss"]).all()
    assert len(runs[0].rows) == 48 and set(runs[0].rows.tolist()) <= set(range(240))
