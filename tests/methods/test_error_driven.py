"""Error-driven selection on examples worked by hand: retrieved rows, notes, and signals per
setting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("bm25s")

from tests.methods.planted_columns import digests, skilled, target_columns
from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.methods import load
from thresher.methods.needs import models_of, needs, needs_target, uses_main_model
from thresher.types import (
    Capability,
    Columns,
    Method,
    MethodContext,
    ModelIdentity,
    OfTarget,
    seeded_ties,
)

STUDENT = ModelIdentity("student", "llava", "float32", "pil")
TEACHER = ModelIdentity("teacher", "llava", "float32", "pil")
CONTEXT = MethodContext(STUDENT, {"teacher": TEACHER}, budget=10)


def pool(n: int = 70, kinds: np.ndarray | None = None) -> Columns:
    digest = np.sort(digests(n))
    kinds = np.arange(n) % 7 if kinds is None else kinds
    return Columns(digest, seeded_ties(digest, 0), np.zeros(n, np.int32), ("web",), skilled(kinds))


def choose(settings: dict[str, str], columns: Columns, target: Columns, k: int):  # type: ignore[no-untyped-def]
    method = load("error_driven", settings)
    return method.select(columns, k, target)


def of_target(method: Method) -> dict[str, Any]:
    found = method.signals(CONTEXT).items()
    return {name: marked.signal for name, marked in found if isinstance(marked, OfTarget)}


@pytest.mark.parametrize("retrieval", ["bm25", "embedding"])
def test_each_missing_skill_gets_rows(retrieval: str) -> None:
    columns, target = pool(), target_columns()
    found = choose({"retrieval": retrieval}, columns, target, 16)
    lacking = [s for s in target["gap"]["skills"].tolist() if s]
    assert len(lacking) == 8
    rows = {int(row): i for i, row in enumerate(target["row"]["row"].tolist())}
    for at in found.rows.tolist():
        assert found.reason["skills"][at] == found.reason["missing_skill"][at]
        i = rows[int(found.reason["validation_row"][at])]
        assert target["gap"]["skills"][i] == found.reason["missing_skill"][at]
        assert target["mistake"]["text"][i] == found.reason["mistaken_step"][at]
        assert found.reason["search_score"][at] > 0
    by = found.reason["validation_row"][found.rows]
    # two rounds
    assert np.unique(by[:8]).tolist() == np.unique(by[8:]).tolist() and len(np.unique(by)) == 8
    unchosen = np.setdiff1d(np.arange(70), found.rows)
    assert (found.reason["validation_row"][unchosen] == -1).all()
    assert (
        np.isnan(found.reason["search_score"][unchosen]).all()
        and (found.reason["search_rank"][unchosen] == -1).all()
    )


def test_findings_are_recorded_per_row() -> None:
    found = choose({"teacher": "x"}, pool(), target_columns(), 16)
    result = found.findings.summary
    assert (result["rows"], result["wrong"], result["unanswered"], result["never_switched"]) == (
        12,
        8,
        0,
        4,
    )
    assert result["tasks"] == [
        {"task": "charts", "rows": 6, "wrong": 4},
        {"task": "photos", "rows": 6, "wrong": 4},
    ]
    assert (
        sum(s["errors"] for s in result["skills"]) == 8
        and sum(s["rows"] for s in result["skills"]) == 16
    )
    assert result["skills"][0]["errors"] == max(s["errors"] for s in result["skills"])
    records = found.findings.rows
    assert [r["row"] for r in records] == sorted(r["row"] for r in records) and len(records) == 8
    assert all(
        r["steps"] == ["before", r["steps"][1]] and r["mistaken_step"] == 1 and r["fetched"] == 2
        for r in records
    )
    assert "8 of 12 validation rows wrong (67%)" in found.notes[0]
    assert any("In 4 of 8 wrong rows no step switches" in n for n in found.notes)
    assert any("10 of 70 rows of the pool have no readable skill" in n for n in found.notes)
    assert not any("random sample" in n or "student judged" in n for n in found.notes)


def test_unused_budget_is_filled_or_left_with_a_note() -> None:
    kinds = np.full(40, 1)  # all rows take "naming colours"
    few = target_columns()
    few.values["gap"]["skills"][:] = ""  # type: ignore[index]
    few.values["gap"]["skills"][1] = "naming colours"  # type: ignore[index]
    few.values["gap"]["skills"][2] = "unheard"  # type: ignore[index]
    kinds[:30] = 0
    full = choose({}, pool(40, kinds), few, 25)
    assert len(full.rows) == 25 and (full.reason["validation_row"][full.rows[:10]] >= 0).all()
    assert (full.reason["validation_row"][full.rows[10:]] == -1).all()
    assert any("15 of 25 rows are a random sample" in n for n in full.notes)
    bare = choose({"fill": "none"}, pool(40, kinds), few, 25)
    assert bare.rows.tolist() == full.rows[:10].tolist()


def test_budget_below_the_number_of_searches_gives_a_note() -> None:
    found = choose({}, pool(), target_columns(), 3)
    result = found.findings.summary
    assert (result["waiting"], result["found_nothing"]) == (5, 0)
    assert any("5 of 8 mistakes got no row: the budget is smaller" in n for n in found.notes)
    assert not any("not taken yet" in n for n in found.notes)
    lost_rows = target_columns()
    lost_rows.values["gap"]["skills"][np.flatnonzero(lost_rows["mistake"]["chosen"])[0]] = "unheard"  # type: ignore[index]
    result = choose({}, pool(), lost_rows, 3).findings.summary
    assert (result["waiting"], result["found_nothing"]) == (4, 1)


def test_budgets_nest() -> None:
    small, large = (choose({}, pool(), target_columns(), k).rows.tolist() for k in (10, 30))
    assert large[:10] == small


def test_student_without_correct_answers_gives_a_note() -> None:
    lost_rows = target_columns()
    assert not any("None is right" in n for n in choose({}, pool(), lost_rows, 5).notes)
    lost_rows.values["rationale"]["right"][:] = False  # type: ignore[index]
    assert any(
        "None is right" in n and "errors.jsonl" in n for n in choose({}, pool(), lost_rows, 5).notes
    )


def test_model_without_mistakes_gives_a_random_sample_and_a_note() -> None:
    right = target_columns()
    right.values["rationale"]["right"][:] = True  # type: ignore[index]
    right.values["gap"]["skills"][:] = ""  # type: ignore[index]
    right.values["mistake"]["chosen"][:] = False  # type: ignore[index]
    found = choose({}, pool(), right, 5)
    assert len(found.rows) == 5 and found.findings.summary["wrong"] == 0
    assert any("no error to select rows for" in n for n in found.notes)


def test_random_rows_need_neither_models_nor_a_validation_set() -> None:
    method = load("error_driven", {"target": "random", "teacher": "x"})
    assert not needs_target(method) and needs(method) == () and models_of(method) == {}
    columns = pool()
    taken = method.select(columns, 9).rows
    assert taken.tolist() == np.argsort(columns.ties, kind="stable")[:9].tolist()


def test_missing_validation_set_is_reported() -> None:
    with pytest.raises(ConfigError, match="`validation`"):
        load("error_driven").select(pool(), 3)


def test_student_and_teacher_signals() -> None:
    method = load("error_driven", {"teacher": "t"})
    assert models_of(method) == {"teacher": "t"} and uses_main_model(method)
    aimed = of_target(method)
    pool_side: dict[str, Any] = {k: s for k, s in method.signals(CONTEXT).items() if k not in aimed}
    assert pool_side["row_skills"].model == TEACHER and list(pool_side) == ["row_skills"]
    assert aimed["rationale"].model == STUDENT
    assert aimed["answer_switch"].model == aimed["missing_skill"].model == TEACHER
    assert needs(method) == (Capability.GENERATE, Capability.LOGPROBS)


def test_another_rule_needs_no_model() -> None:
    """δ, λ and the ablations of the rule are arithmetic; the teacher's answers stay those of the
    same column."""
    base, other = (
        load("error_driven", {"teacher": "t", **more})
        for more in ({}, {"delta": "0.3", "lam": "2"})
    )
    a, b = (of_target(m) for m in (base, other))
    assert fingerprint(a["answer_switch"]) == fingerprint(b["answer_switch"])
    assert fingerprint(a["missing_skill"]) == fingerprint(b["missing_skill"])
    assert fingerprint(a["mistake"]) != fingerprint(b["mistake"])


def test_sampling_from_a_server_is_opt_in() -> None:
    method = load("error_driven", {"teacher": "t", "switch": "sample:8"})
    signal = of_target(method)["answer_switch"]
    assert (signal.kind, signal.draws) == ("sampled_switch", 8)
    assert Capability.LOGPROBS not in needs(method)


@pytest.mark.parametrize(
    "given", ["delta=1", "lam=-1", "prior=1", "max_skills=0", "switch=sample", "switch=sample:0"]
)
def test_impossible_settings_are_refused(given: str) -> None:
    key, _, value = given.partition("=")
    with pytest.raises(ConfigError, match=key):
        load("error_driven", {key: value})
