"""`--rounds`: targets of each round, no row twice, and students trained once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bm25s")
pytest.importorskip("rensa")

from tests import runs
from tests.fake_training import FakeTraining
from tests.text_pools import record, write_pool
from tests.validation_sets import Rules, validation
from thresher.backends import ModelHandle
from thresher.errors import CapabilityError, ConfigError
from thresher.methods import load
from thresher.pools import Pool, open_pool
from thresher.selection import iterate
from thresher.selection.result import Outcome
from thresher.storage.columns import Store
from thresher.training.registry import Trainer
from thresher.types import Budget


class Learning(FakeTraining):
    """A trained student has the skills of which it was trained on at least `enough` rows."""

    enough = 3

    def open(self, folder: Path) -> ModelHandle:
        data = json.loads((folder / "model.json").read_text())
        found = Rules("trained", knows=tuple(data["knows"])).handle
        return replace(found, name=str(folder))

    def fit(
        self, base: str, pool: Any, rows: np.ndarray | None, recipe: Any, out: Path, **more: Any
    ) -> Any:
        assert rows is not None
        done = super().fit(base, pool, rows, recipe, out, device="cpu")
        counts = np.bincount(rows % 3, minlength=3)
        data = json.loads((out / "model.json").read_text())
        data["knows"] = [r for r in range(6) if counts[r % 3] >= self.enough]
        (out / "model.json").write_text(json.dumps(data))
        return done

    @property
    def trainer(self) -> Trainer:
        return Trainer(self.fit, self.open, "cpu")


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(90)]))


@pytest.fixture
def target(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "validation.json", validation(24)))


def select(
    tmp_path: Path, pool: Pool, target: Pool | None, **more: Any
) -> tuple[Outcome, Learning]:
    training = Learning(tmp_path / "log")
    settings = {"teacher": "t", **more.pop("settings", {})}
    given = {
        "rounds": 3,
        "model": Rules("student").handle,
        "roles": {"teacher": Rules("teacher").handle},
        "store": Store(tmp_path / "store"),
        "trainer": training.trainer,
        "target": target,
    }
    outcome = runs.select_in_rounds(
        pool,
        load("error_driven", settings),
        Budget.parse(more.pop("budget", "12")),
        **{**given, **more},
    )
    return outcome, training


def test_shares() -> None:
    assert iterate.shares(11, 3) == [4, 4, 3] and iterate.shares(2, 3) == [1, 1, 0]


def test_each_round_targets_remaining_errors(tmp_path: Path, pool: Pool, target: Pool) -> None:
    Learning.enough = 3
    outcome, training = select(tmp_path, pool, target)
    assert len(outcome.rows) == 12 == len(np.unique(outcome.rows))
    number = outcome.reason["round"]
    assert number.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    result = outcome.findings.summary["rounds"]  # type: ignore[union-attr]
    assert [t["wrong"] for t in result] == [24, 24, 16]
    calls = training.calls()
    assert [c["rows"] for c in calls] == [4, 8]  # each student is trained on all rows so far
    for k in (2, 3):  # a round fetches nothing for a skill that the student has by then
        before = outcome.rows[number < k]
        had = [s for s in range(3) if (before % 3 == s).sum() >= 3]
        assert not np.isin(outcome.rows[number == k] % 3, had).any()
    assert (
        outcome.recipe.model == "student"
        and outcome.recipe.budget == "12"
        and len(outcome.trainings) == 2
    )
    assert any(n.startswith("Round 2: The model gets") for n in map(str, outcome.notes))
    evidence = outcome.evidence["round"]
    assert evidence.shape == outcome.considered.shape and (evidence > 0).sum() == 12


def test_a_budget_above_the_pool_is_all_of_it(tmp_path: Path, pool: Pool, target: Pool) -> None:
    Learning.enough = 1
    outcome, _ = select(tmp_path, pool, target, budget="1000")
    assert outcome.budget == len(pool) and outcome.recipe.budget == "1000"
    assert str(outcome.notes[0]) == (
        f"budget=1000 is more than the pool has ({len(pool)} rows): it means all of them."
    )


def test_second_run_trains_nothing_and_gives_the_same(
    tmp_path: Path, pool: Pool, target: Pool
) -> None:
    Learning.enough = 3
    first, _ = select(tmp_path, pool, target)
    second, training = select(tmp_path, pool, target)
    assert second.rows.tolist() == first.rows.tolist() and training.asked == 0
    assert not any(s.scored for s in second.signals)


def test_stops_early_without_errors(tmp_path: Path, pool: Pool, target: Pool) -> None:
    Learning.enough = 1
    outcome, _ = select(tmp_path, pool, target)
    assert len(outcome.rows) == 4 and outcome.budget == 12
    assert (
        any("the rounds end here" in n for n in map(str, outcome.notes))
        and "4 rows instead of 12" in outcome.notes[-1].text
    )


def test_default_teacher_is_the_given_model(tmp_path: Path, pool: Pool, target: Pool) -> None:
    Learning.enough = 3
    outcome, _ = select(tmp_path, pool, target, settings={"teacher": "none"}, roles={})
    scored = {s.label: s.scored for s in outcome.signals}
    assert (
        scored["round 1: row_skills"] == 90
        and scored["round 2: row_skills"] == scored["round 3: row_skills"] == 0
    )


def test_a_row_that_failed_in_the_first_round_stays_out(
    tmp_path: Path, pool: Pool, target: Pool
) -> None:
    """A server may answer when it is asked again."""
    Learning.enough = 3
    lame, answers = Rules("teacher"), Rules.generate
    calls = {"skills": 0}

    def generate(samples: Any, pool: Any, most: int) -> Any:
        for piece in answers(lame, samples, pool, most):
            if lame.asked[-1] == "skills":
                calls["skills"] += 1
                if calls["skills"] <= 4:
                    piece = replace(piece, errors=["HTTP 500"])
            yield piece

    lame.generate = generate  # type: ignore[method-assign]
    outcome, _ = select(tmp_path, pool, target, roles={"teacher": lame.handle}, retry_errors=True)
    assert calls["skills"] == 90 and outcome.excluded == 4 and len(outcome.rows) == 12
    assert not np.isin(outcome.rows, [f.row for f in outcome.failures]).any()


def test_student_without_mistakes_is_not_trained(tmp_path: Path, pool: Pool, target: Pool) -> None:
    knowing = Rules("student", knows=tuple(range(6))).handle
    outcome, training = select(tmp_path, pool, target, model=knowing)
    assert training.asked == 0 and len(outcome.rows) == 12 and (outcome.reason["round"] == 1).all()
    once, _ = select(tmp_path, pool, target, model=knowing, rounds=1)
    assert outcome.rows.tolist() == once.rows.tolist()
    assert any("no error to select rows for" in n for n in map(str, outcome.notes))


def test_one_round_equals_a_plain_selection(tmp_path: Path, pool: Pool, target: Pool) -> None:
    one, training = select(tmp_path, pool, target, rounds=1)
    none, _ = select(tmp_path, pool, target, rounds=None)
    assert (
        one.rows.tolist() == none.rows.tolist()
        and "round" not in one.reason
        and training.asked == 0
    )


def test_options_incompatible_with_rounds_fail_first(
    tmp_path: Path, pool: Pool, target: Pool
) -> None:
    served = replace(
        Rules("s").handle, identity=replace(Rules("s").handle.identity, architecture="openai")
    )
    with pytest.raises(CapabilityError, match="behind a server"):
        select(tmp_path, pool, target, model=served)
    with pytest.raises(ConfigError, match="`validation`"):
        select(tmp_path, pool, None)
    with pytest.raises(ConfigError, match="looks at no errors"):
        runs.select_in_rounds(
            pool, load("random"), Budget.parse("3"), rounds=2, store=Store(tmp_path / "s")
        )
