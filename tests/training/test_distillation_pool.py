"""mmSSR's full recipe with fake models: a teacher scores a sample; models are trained once."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runs as run
from tests.fake_training import FakeTraining
from tests.methods.planted_columns import digests
from tests.runs import plan
from tests.text_pools import Model, record, write_pool
from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY, FakeBackend
from thresher.engine import RunContext, create_engine
from thresher.errors import ConfigError
from thresher.methods import load
from thresher.methods.mmssr import Mmssr
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.selection.result import Outcome
from thresher.selection.signals_table import signals_table
from thresher.signals.capabilities import STYLES
from thresher.signals.query import Query
from thresher.signals.teacher_sample import Learned, TeacherSample
from thresher.storage.columns import Store
from thresher.training.distillation_pool import DistillationPool
from thresher.types import Budget, Columns, MethodContext, ModelIdentity, Sample

TEACHER = ModelIdentity("fake:teacher", "fake", "float32", "pil")
SETTINGS = {"teacher": "t", "teacher_fraction": "0.1", "capabilities": "ocr,humanities"}


def number(sample: Sample) -> int:
    """Row r17 -> 17."""
    return int(sample.id.strip('"').removeprefix("r"))


def knows(sample: Sample, query: Query) -> list[float]:
    """The teacher: a row's score is its number modulo 6, one less for the humanities; its style the
    number modulo 9, and yes/no for even rows."""
    if query.whole:
        right = {STYLES[number(sample) % 9], *(["yes/no"] if number(sample) % 2 == 0 else [])}
    else:
        right = {str(max(number(sample) % 6 - ("humanities" in query.text), 0))}
    return [math.log(0.9 / len(right) if a in right else 0.01) for a in query.answers]


def writes(sample: Sample) -> str:
    text = sample.turns[-2].text
    if "Styles:" in text:
        return STYLES[number(sample) % 9]
    return "unsure" if number(sample) % 5 == 0 else f"I rate it {number(sample) % 6}."


class Teacher(Model):
    def __init__(self, log: Path | None = None, **more: Any) -> None:
        super().__init__(kwargs={"answers": knows, "writes": writes, "log": log, **more})

    @property
    def handle(self) -> ModelHandle:
        return ModelHandle("teacher", TEACHER, self._open)


def pool_of(folder: Path, n: int) -> Pool:
    return open_pool(write_pool(folder / "pool.json", [record(i) for i in range(n)]))


@pytest.fixture
def training(tmp_path: Path) -> FakeTraining:
    return FakeTraining(tmp_path / "trainings")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def select(
    pool: Pool, store: Store, training: FakeTraining, teacher: Model, **more: str
) -> Outcome:
    method = load("mmssr", {**SETTINGS, **more})
    return run.select(
        pool, method, Budget.parse("20%"), model=Model().handle, store=store,
        trainer=training.trainer, roles={"teacher": teacher.handle},
    )  # fmt: skip


def counts(outcome: Outcome) -> dict[str, tuple[int, int]]:
    return {s.label: (s.needed, s.scored) for s in outcome.signals}


def test_teacher_is_asked_only_about_the_sample(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool, log = pool_of(tmp_path, 300), tmp_path / "asked"
    out = select(pool, store, training, Teacher(log))
    asked = Counter(log.read_text().split())
    assert len(asked) == 30 and set(asked.values()) == {1}  # all its questions at once
    sampled = np.flatnonzero(out.evidence["teacher_sample"] != "")
    assert len(sampled) == 30 and (out.evidence["teacher_sample"] == "held out").sum() == 6
    source = pool.source[out.considered[sampled]]
    assert np.bincount(source).tolist() == [10, 10, 10]  # stratified
    taught = out.evidence["teacher_optical_character_recognition"]
    numbers = np.array([int(i.strip('"r')) for i in pool.ids(out.considered)])
    assert (taught[sampled] == numbers[sampled] % 6).all() and np.isnan(
        np.delete(taught, sampled)
    ).all()
    c = counts(out)
    assert c["teacher_score_humanities"] == c["teacher_style_0"] == (30, 30)
    assert c["score_humanities"] == c["style_0"] == (300, 300)
    assert len(out.rows) == 60


def test_scorer_and_styler_are_trained_once_each(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 300)
    first = select(pool, store, training, Teacher())
    assert [t.label for t in first.trainings] == ["score_humanities", "style_0"]
    assert first.trainings[0].rows == 24 * 2  # 24 rows to learn from, two capabilities
    even = sum(number % 2 == 0 and number % 9 != 2 for number in learned(pool))
    assert first.trainings[1].rows == 24 + even  # one example per style
    again = select(pool, store, training, unasked := Teacher())
    assert again.rows.tolist() == first.rows.tolist() and again.notes == first.notes
    assert len(training.calls()) == 2 and unasked.opened == 0
    assert all(scored == 0 for _, scored in counts(again).values())

    more = select(pool, store, training, unasked, group_by="style", threshold="1")
    assert len(training.calls()) == 2 and unasked.opened == 0 and len(more.rows)
    # what it learns is another thing: another scorer
    one = select(pool, store, training, unasked, capabilities="ocr")
    assert [c["rows"] for c in training.calls()] == [48, 24 + even, 24] and unasked.opened == 0
    assert counts(one)["style_0"] == (300, 0)
    select(pool, store, training, grown := Teacher(), teacher_fraction="0.15")
    # rows of the smaller sample that are in the larger one, too, are not asked about again
    assert grown.scored < 45


def learned(pool: Pool) -> list[int]:
    columns = Columns(
        pool.digest[pool.order], np.zeros(len(pool)), pool.source[pool.order], pool.source_names
    )
    sample = TeacherSample(0.1, 0)
    values = {"sample": sample.pool(columns)}
    rows = Learned(sample).pool(replace(columns, values=values))["chosen"]
    return [int(i.strip('"r')) for i in pool.ids(pool.order[rows])]


@pytest.mark.parametrize("style", ["likelihood", "generate"])
def test_distillation_examples(
    tmp_path: Path, store: Store, training: FakeTraining, style: str
) -> None:
    pool = pool_of(tmp_path, 120)
    method = load("mmssr", {**SETTINGS, "style": style})
    signals = method.signals(MethodContext(IDENTITY, {"teacher": TEACHER}))
    engine = create_engine(
        pool,
        signals,
        RunRequest(),
        RunContext(store, Model().handle, {"teacher": Teacher().handle}, training.trainer),
    )
    engine.columns(
        {name: s for name, s in signals.items() if name.startswith("teacher_") or name == "sample"}
    )
    scorer, styler = (
        signals["score_humanities"],
        signals["style_0" if style == "likelihood" else "styles"],
    )
    made = {}
    for name, signal in (("scorer", scorer), ("styler", styler)):
        for inner in signal.inputs().values():
            engine.column(inner, "x")
        identity = engine.scoring_request(signal, "x").signal.model
        source = engine.models.training_sets[identity].source
        assert isinstance(source, DistillationPool) and identity.rows.startswith("sha256:")
        made[name] = source.samples(range(len(source)))
        assert [s.digest for s in made[name]] == [
            bytes(d.ljust(32, b"\0")) for d in source.digest.tolist()
        ]
        back = source.samples([3, 0, 3])
        assert back == [made[name][3], made[name][0], made[name][3]]
        assert source.ids([3]) == [back[0].id.strip(chr(34))]
        assert source.by_digest(back[1].digest) == back[1]
    sample_rows = {number(s) for s in made["scorer"]}
    assert len(sample_rows) == 10 and len(made["scorer"]) == 20  # 12 sampled, 2 held out
    for s in made["scorer"]:
        system, user, answer = s.turns
        assert (system.role, system.text) == ("system", "You are a helpful assistant.")
        assert user.text.startswith(
            f"Question: What is {number(s)} plus {number(s)}? Answer: It is "
        )
        less = user.text.endswith("Language Model for humanities?")
        assert less or user.text.endswith("for optical character recognition?")
        assert answer.text == str(max(number(s) % 6 - less, 0))
    for row in sample_rows:
        answers = [s.turns[-1].text for s in made["styler"] if number(s) == row]
        names = sorted({row % 9, *([2] if row % 2 == 0 else [])})
        expected = [STYLES[k] for k in names]
        assert answers == (expected if style == "likelihood" else [", ".join(expected)])
    assert all(s.turns[1].text.endswith("Styles: ") for s in made["styler"])


def test_invalid_answers_give_no_example(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 300)
    out = select(pool, store, training, Teacher(), teacher_answers="generate")
    rows = [n for n in learned(pool) if n % 5]
    assert out.trainings[0].rows == 2 * len(rows) < 48 and out.trainings[1].rows == 24
    taught = out.evidence["teacher_humanities"]
    assert np.isfinite(taught).sum() == sum(
        int(i.strip('"r')) % 5 > 0 for i in sampled_ids(pool, out)
    )


def sampled_ids(pool: Pool, out: Outcome) -> list[str]:
    return pool.ids(out.considered[out.evidence["teacher_sample"] != ""])


def test_a_teacher_that_never_answers_stops_the_run(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    pool = pool_of(tmp_path, 300)
    mute = Teacher(writes=lambda sample: "no idea")
    with pytest.raises(ConfigError, match="no row to train it on"):
        select(pool, store, training, mute, teacher_answers="generate", capabilities="ocr")
    assert training.asked == 0


def test_a_killed_run_asks_only_for_what_is_missing(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    """Killed while the scorer is trained: the teacher's answers are there."""

    class Killed(FakeTraining):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            raise KeyboardInterrupt

    pool = pool_of(tmp_path, 300)
    with pytest.raises(KeyboardInterrupt):
        select(pool, store, Killed(training.log), Teacher())
    second = Teacher()
    out = select(pool, store, training, second)
    assert second.opened == 0 and len(training.calls()) == 2
    fresh = Store(tmp_path / "fresh")
    assert (
        out.rows.tolist()
        == select(pool, fresh, FakeTraining(tmp_path / "b"), Teacher()).rows.tolist()
    )


def test_unscorable_rows_do_not_change_the_scorer(
    tmp_path: Path, store: Store, training: FakeTraining
) -> None:
    """A row that was learned from fails afterwards: who learned from it stays who it is."""
    pool = pool_of(tmp_path, 300)
    bad = learned(pool)[0]

    class Fails(FakeTraining):
        def open(self, folder: Path) -> ModelHandle:
            handle = super().open(folder)
            return replace(
                handle,
                open=lambda: FakeBackend(fails=lambda s: "broken" if number(s) == bad else ""),
            )

    out = select(pool, store, Fails(training.log), Teacher())
    assert out.excluded == 1 and len(training.calls()) == 2
    assert sorted(counts(out).values())[-1] == (300, 300)


def test_the_plan_of_the_recipe(tmp_path: Path, store: Store, training: FakeTraining) -> None:
    pool = pool_of(tmp_path, 300)
    method = load("mmssr", SETTINGS)
    roles = {"teacher": Teacher().handle}
    before = plan(pool, method, Budget.parse("20%"), Model().handle, store, roles=roles)
    expected = {s.label: (s.to_score, s.upper_bound) for s in before.signals}
    assert expected["teacher_score_humanities"] == (30, False)
    # who scores is not known before the teacher has answered
    assert expected["score_humanities"] == (300, True)
    out = select(pool, store, training, Teacher())
    after = plan(pool, method, Budget.parse("20%"), Model().handle, store, roles=roles)
    assert after.to_score == 0 and after.trainings == ()
    output.write(out, pool, None, tmp_path / "out")
    table = signals_table(tmp_path / "out")
    assert np.isfinite(table["teacher_score_humanities.score"].to_numpy()).sum() == 30
    assert re.fullmatch("[0-9a-f]{32}", out.trainings[0].fingerprint)


@pytest.mark.parametrize("n", [1, 3, 9, 11, 500, 1003])
def test_the_sample(n: int) -> None:
    digest = np.sort(digests(n))
    source = (np.arange(n) * 7 % 10 > 6).astype(np.int32)  # 30% are of the second source
    columns = Columns(digest, np.zeros(n, np.uint64), source, ("b", "a"))
    found = TeacherSample(0.02, 0).pool(columns)
    chosen, held = found["chosen"], found["held_out"]
    count = max(min(n, 10), round(0.02 * n))
    assert chosen.sum() == count and (chosen | ~held).all()
    assert abs(held.sum() - count / 5) < 1
    for s in (0, 1):
        assert abs((chosen & (source == s)).sum() - count * (source == s).mean()) <= 1
    renamed = Columns(digest, np.zeros(n, np.uint64), 1 - source, ("a", "b"))
    assert (TeacherSample(0.02, 0).pool(renamed)["chosen"] == chosen).all()
    if n > 400:
        assert (TeacherSample(0.02, 1).pool(columns)["chosen"] != chosen).any()


def test_copies_of_held_out_rows_are_not_learned_from() -> None:
    digest = np.repeat(np.sort(digests(30)), 2)
    sample = TeacherSample(1.0, 0)
    columns = Columns(digest, np.zeros(60, np.uint64), np.zeros(60, np.int32), ("",))
    found = sample.pool(columns)
    rows = Learned(sample).pool(replace(columns, values={"sample": found}))["chosen"]
    assert rows.any() and not np.isin(digest[rows], digest[found["held_out"]]).any()


def test_a_method_without_a_teacher_has_no_sample() -> None:
    assert not any(name.startswith("teacher") for name in Mmssr().signals(MethodContext(IDENTITY)))
