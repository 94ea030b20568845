"""Signals that share a pass: one column each, reuse of stored columns, models by role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import runs as run
from tests.engine.judge_panel import Judge, Panel, Question, answer, identity
from tests.text_pools import record, write_pool
from thresher.methods.needs import needs, uses_main_model
from thresher.pools import Pool, open_pool
from thresher.selection.result import Outcome
from thresher.storage.columns import Store
from thresher.types import (
    Budget,
    Capability,
    SharedSignal,
)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(60)]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def select(pool: Pool, store: Store, judge: Judge, questions: str, **more: Any) -> Outcome:
    return run.select(
        pool, Panel(questions), Budget.parse("10"), store=store, model=judge.handle, **more
    )


def test_the_protocol_is_recognised() -> None:
    assert isinstance(Question(identity("x"), "a"), SharedSignal)


def test_one_pass_fills_one_column_per_question(pool: Pool, store: Store) -> None:
    judge = Judge()
    outcome = select(pool, store, judge, "a,b,c")
    assert judge.passes == [(("a", "b", "c"), 60)]
    assert [(s.label, s.scored, s.reused) for s in outcome.signals] == [
        ("a", 60, 0),
        ("b", 60, 0),
        ("c", 60, 0),
    ]
    assert len({s.fingerprint for s in outcome.signals}) == 3
    for text in "abc":
        expected = [answer(text, pool.sample(int(r))) for r in outcome.rows]
        assert outcome.reason[text] == pytest.approx(expected)


def test_stored_questions_are_reused_and_a_new_one_runs_alone(pool: Pool, store: Store) -> None:
    judge = Judge()
    select(pool, store, judge, "a,b,c")
    judge.passes.clear()
    assert [s.scored for s in select(pool, store, judge, "c,a").signals] == [0, 0]
    assert judge.passes == []
    assert [s.scored for s in select(pool, store, judge, "a,d").signals] == [0, 60]
    assert judge.passes == [(("d",), 60)]


def test_rows_are_asked_only_missing_questions(tmp_path: Path, store: Store) -> None:
    few = open_pool(write_pool(tmp_path / "few.json", [record(i) for i in range(20)]))
    grown = open_pool(write_pool(tmp_path / "grown.json", [record(i) for i in range(60)]))
    judge = Judge()
    select(few, store, judge, "a")
    judge.passes.clear()
    outcome = select(grown, store, judge, "a,b")
    assert sorted(judge.passes) == [(("a", "b"), 40), (("b",), 20)]
    assert [(s.label, s.scored) for s in outcome.signals] == [("a", 40), ("b", 60)]


def test_failed_question_does_not_affect_others(pool: Pool, store: Store) -> None:
    judge = Judge(fails="b")
    outcome = select(pool, store, judge, "a,b,c", on_missing="exclude")
    bad = [r for r in range(60) if answer("b", pool.sample(r)) > 0.98]
    assert bad, "the planted failure must occur"
    assert [(f.row, f.signal, f.error) for f in outcome.failures] == [
        (r, "b", "no answer") for r in bad
    ]
    failed = {s.label: s.failed for s in outcome.signals}
    assert failed == {"a": 0, "b": len(bad), "c": 0}
    judge.passes.clear()
    select(pool, store, judge, "a,c")  # the failed rows have these two answers already
    assert judge.passes == []


def test_each_role_gets_its_own_questions(pool: Pool, store: Store) -> None:
    main, second = Judge("main"), Judge("second")
    method = Panel("a", second="somewhere")
    outcome = run.select(
        pool,
        method,
        Budget.parse("10"),
        store=store,
        model=main.handle,
        roles={"second": second.handle},
    )
    assert main.passes == [(("a",), 60)] and second.passes == [(("style",), 60)]
    assert outcome.recipe.roles == {"second": ("second", identity("second"))}


def test_method_with_only_role_models_needs_no_main_model(pool: Pool, store: Store) -> None:
    method, second = Panel("", second="somewhere"), Judge("second")
    assert needs(method) == (Capability.LOGPROBS,)
    assert (
        not uses_main_model(method)
        and uses_main_model(Panel("a", second="x"))
        and uses_main_model(Panel("a"))
    )
    outcome = run.select(
        pool, method, Budget.parse("10"), store=store, roles={"second": second.handle}
    )
    assert len(outcome.rows) == 10


def test_plan_counts_a_shared_pass_once(pool: Pool, store: Store) -> None:
    made = run.plan(pool, Panel("a,b,c"), Budget.parse("10"), Judge().handle, store)
    assert [(s.label, s.to_score, s.passes) for s in made.signals] == [
        ("a", 60, 60),
        ("b", 60, 0),
        ("c", 60, 0),
    ]
    assert made.passes == 60


def test_plan_assigns_a_shared_pass_to_the_question_with_most_missing_rows(
    pool: Pool, store: Store
) -> None:
    run.select(pool, Panel("a"), Budget.parse("10"), store=store, model=Judge().handle)
    grown = open_pool(write_pool(pool.path.with_name("grown.json"), [record(i) for i in range(80)]))
    made = run.plan(grown, Panel("a,b"), Budget.parse("10"), Judge().handle, store)
    assert [(s.label, s.to_score, s.passes, s.asked_with) for s in made.signals] == [
        ("a", 20, 0, "a"),
        ("b", 80, 80, "a"),
    ]
