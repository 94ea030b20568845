"""Selections with a validation set: stored columns, leaks, output files and replay."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

pytest.importorskip("bm25s")
pytest.importorskip("rensa")

from tests import runs as run
from tests.text_pools import record, write_pool
from tests.validation_sets import SKILLS, Rules, skill_of, validation
from thresher.backends.fake import Measured
from thresher.errors import ConfigError, PoolError, TooManyFailures
from thresher.methods import load
from thresher.pools import Pool, open_pool
from thresher.pools.token_estimate import TOKENS_PER_WORD
from thresher.selection import folder as output
from thresher.selection.cost import SHORT_ANSWER, RowCost
from thresher.selection.result import Outcome
from thresher.selection.signal_plan import SignalPlan
from thresher.storage.columns import Store
from thresher.types import Budget


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(90)]))


@pytest.fixture
def target(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "validation.json", validation(24)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def select(
    pool: Pool, target: Pool | None, store: Store, student: Rules, teacher: Rules, **more: Any
) -> Outcome:
    settings = {"teacher": "teacher", **more.pop("settings", {})}
    method = load("error_driven", settings)
    roles = {"teacher": teacher.handle}
    return run.select(
        pool,
        method,
        Budget.parse("12"),
        store=store,
        model=student.handle,
        roles=roles,
        target=target,
        **more,
    )


def test_rows_are_retrieved_for_the_students_errors(pool: Pool, target: Pool, store: Store) -> None:
    # it lacks the second and third skill
    student, teacher = Rules("student", knows=(0, 3)), Rules("teacher")
    outcome = select(pool, target, store, student, teacher)
    assert student.asked == ["rationale"] * 24
    assert {k: teacher.asked.count(k) for k in ("switch", "skill", "skills")} == {
        "switch": 64,
        "skill": 16,
        "skills": 90,
    }
    for row, fetched_by, skill, step in zip(
        outcome.rows.tolist(),
        outcome.reason["validation_row"].tolist(),
        outcome.reason["missing_skill"].tolist(),
        outcome.reason["mistaken_step"].tolist(),
        strict=True,
    ):
        asked = target.sample(fetched_by).turns[0].text
        assert skill == skill_of(asked) == SKILLS[row % 3] and row % 3 != 0
        number = 5000 + fetched_by
        assert step == f"Twice {number} is {2 * number + 1}."
    assert outcome.findings is not None and outcome.findings.summary["wrong"] == 16
    assert [s.label for s in outcome.signals] == [
        "validation rationale",
        "validation answer_switch",
        "validation missing_skill",
        "row_skills",
    ]
    assert [s.needed for s in outcome.signals] == [24, 16, 16, 90]


def test_second_run_needs_no_model_and_another_student_only_new_columns(
    pool: Pool, target: Pool, store: Store
) -> None:
    select(pool, target, store, Rules("student", knows=(0, 3)), Rules("teacher"))
    student, teacher = Rules("student", knows=(0, 3)), Rules("teacher")
    again = select(pool, target, store, student, teacher, settings={"delta": "0.2"})
    assert (student.opened, teacher.opened) == (0, 0) and not any(s.scored for s in again.signals)
    # gets four more wrong; its answers to the others are the same
    other = Rules("student", knows=(0,))
    select(pool, target, store, other, teacher)
    assert teacher.asked.count("skill") == 4 and teacher.asked.count("skills") == 0


def test_student_as_teacher_gives_a_note(pool: Pool, target: Pool, store: Store) -> None:
    student = Rules("student")
    method = load("error_driven")
    outcome = run.select(
        pool, method, Budget.parse("12"), store=store, model=student.handle, target=target
    )
    assert any("the student judged its own mistakes" in n for n in map(str, outcome.notes))


def test_no_model_runs_without_a_validation_set(pool: Pool, store: Store) -> None:
    student, teacher = Rules("student"), Rules("teacher")
    with pytest.raises(ConfigError, match="`validation`"):
        select(pool, None, store, student, teacher)
    assert not student.opened and not teacher.opened


def test_leaks_are_refused_before_any_model_runs(
    tmp_path: Path, target: Pool, store: Store
) -> None:
    rows = [record(i) for i in range(60)]
    leak = validation(24)[5]
    shouted = json.loads(json.dumps(validation(24)[7]))
    shouted["conversations"][0]["value"] = "  WHAT is 5007\nplus  5007? "
    leaky = open_pool(write_pool(tmp_path / "leaky.json", [*rows, leak, shouted]))
    student, teacher = Rules("student"), Rules("teacher")
    with pytest.raises(
        PoolError,
        match=r"2 rows of the pool repeat .*row 60 repeats validation row 5 \(exact\).*on_leak="
        r".drop",
    ):
        select(leaky, target, store, student, teacher)
    assert not student.opened and not teacher.opened
    outcome = select(leaky, target, store, student, teacher, on_leak="drop")
    assert not {60, 61} & set(outcome.considered.tolist()) and len(outcome.rows) == 12
    assert any(
        "2 rows of the pool repeat questions of the validation set and were dropped (2 exact)" in n
        for n in map(str, outcome.notes)
    )


def test_pool_of_only_leaks_is_refused(target: Pool, store: Store) -> None:
    student, teacher = Rules("student"), Rules("teacher")
    with pytest.raises(
        PoolError, match="All rows of the pool repeat questions of the validation set"
    ):
        select(target, target, store, student, teacher, on_leak="drop")
    assert not student.opened and not teacher.opened


def test_unusable_validation_rows_are_reported_separately(
    tmp_path: Path, pool: Pool, store: Store
) -> None:
    rows = validation(24)
    for row in rows[:3]:
        row["conversations"] = row["conversations"][:1]
    bad = open_pool(write_pool(tmp_path / "bad.json", rows))
    student = Rules("student")
    with pytest.raises(
        TooManyFailures,
        match=r"Of the validation set .*bad\.json, 3 of 24 rows "
        r"cannot be used",
    ):
        select(pool, bad, store, student, Rules("teacher"))
    assert not student.opened
    outcome = select(pool, bad, store, student, Rules("teacher"), on_missing="exclude")
    assert any("3 of 24 validation rows could not be used" in n for n in map(str, outcome.notes))


def test_reencoded_validation_image_is_found(tmp_path: Path, store: Store) -> None:
    (tmp_path / "images").mkdir()
    displayed = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(displayed).resize((160, 120), Image.Resampling.BICUBIC)
    image.save(tmp_path / "images" / "a.png")
    image.save(tmp_path / "images" / "b.jpg", quality=80)
    rows = [record(i) for i in range(30)]
    asked = {"from": "human", "value": "<image>\nWhat is 7 plus what is shown?"}
    for name, where in (("a.png", "val.json"), ("b.jpg", "pool.json")):
        values = {
            "id": name,
            "image": name,
            "conversations": [asked, {"from": "gpt", "value": "8"}],
        }
        write_pool(tmp_path / where, [values] if where == "val.json" else [*rows, values])
    pool, target = (open_pool(tmp_path / f, tmp_path / "images") for f in ("pool.json", "val.json"))
    with pytest.raises(PoolError, match=r"row 30 repeats validation row 0 \(re-encoded\)"):
        select(pool, target, store, Rules("student"), Rules("teacher"))


def test_a_plan_counts_both_sets(pool: Pool, target: Pool, store: Store) -> None:
    student, teacher = Rules("student", knows=(0, 3)), Rules("teacher")
    method = load("error_driven", {"teacher": "teacher"})
    roles = {"teacher": teacher.handle}
    made = run.plan(
        pool,
        method,
        Budget.parse("12"),
        student.handle,
        store,
        roles=roles,
        target=target,
        probe=False,
    )
    found = {s.label: (s.to_score, s.upper_bound) for s in made.signals}
    assert found == {
        "validation rationale": (24, False),
        "validation answer_switch": (24, True),
        "validation missing_skill": (24, True),
        "row_skills": (90, False),
    }
    assert not student.opened and not teacher.opened


def test_a_plan_counts_the_texts_that_are_embedded(pool: Pool, target: Pool, store: Store) -> None:
    """Not the rows that they are of: as long as a short answer, or as they are once written."""
    student, teacher = Rules("student", knows=(0, 3)), Rules("teacher")
    method = load("error_driven", {"teacher": "teacher", "retrieval": "embedding"})

    def vectors() -> dict[str, SignalPlan]:
        made = run.plan(
            pool,
            method,
            Budget.parse("12"),
            student.handle,
            store,
            roles={"teacher": teacher.handle},
            target=target,
            probe=False,
        )
        return {s.label: s for s in made.signals if s.signal == "skill_vector"}

    before = vectors()
    assert {label: s.tokens for label, s in before.items()} == {
        "validation gap_vector": 24 * SHORT_ANSWER,
        "skill_vector": 90 * SHORT_ANSWER,
    }
    assert not any(s.images for s in before.values())
    select(pool, target, store, student, teacher)  # by words: the same texts, and no vectors
    after = vectors()["skill_vector"]
    words = sum(len(f"{SKILLS[i % 3]} speaking plainly".split()) for i in range(90))
    assert after.passes == 90 and after.tokens == round(TOKENS_PER_WORD * words)
    each = RowCost(tokens=100.0, seconds=2.0, peak_bytes=None, basis="")
    assert each.of_texts(5, 10.0) == (50.0, 1.0)


def test_plan_measures_generation(pool: Pool, target: Pool, store: Store) -> None:
    class Slow(Rules):
        def probe(self, samples: Any, pool: Any) -> Measured:
            return Measured(0.001 * len(samples), 10 * len(samples), 1)

        def generate(self, samples: Any, pool: Any, most: int) -> Any:
            time.sleep(0.004 * len(samples))
            return super().generate(samples, pool, most)

    method = load("error_driven", {"teacher": "teacher"})
    roles = {"teacher": Slow("teacher").handle}
    made = run.plan(
        pool, method, Budget.parse("12"), Slow("student").handle, store, roles=roles, target=target
    )
    seconds = {s.label: 3600 * (s.hours or 0) for s in made.signals}
    assert seconds["row_skills"] > 90 * 0.004 and seconds["validation rationale"] > 24 * 0.004
    # as long as the teacher's other answers
    assert seconds["validation missing_skill"] > 24 * 0.004
    assert seconds["validation answer_switch"] < 0.1


def test_written_files(pool: Pool, target: Pool, store: Store, tmp_path: Path) -> None:
    outcome = select(pool, target, store, Rules("student", knows=(0, 3)), Rules("teacher"))
    output.write(outcome, pool, None, tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert config["config"]["validation"] == str(target.path)
    errors = [
        json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    ]
    assert len(errors) == 16
    first = errors[0]
    assert (first["row"], first["question"]) == (0, "What is 5000 plus 5000?")
    assert (
        first["steps"][first["mistaken_step"]] == "Twice 5000 is 10001."
        and first["answer"] == "10001"
    )
    assert first["skill"] == SKILLS[5000 % 3] and first["task"] == "even" and first["switched"]
    selection = pq.read_table(tmp_path / "out" / "selection.parquet")
    fetched = selection["validation_row"].to_pylist()
    assert all(fetched.count(e["row"]) == e["fetched"] for e in errors)
    counts = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert counts["wrong"] == 16 and {t["task"]: t["rows"] for t in counts["tasks"]} == {
        "even": 12,
        "odd": 12,
    }
    random = run.select(pool, load("random"), Budget.parse("12"), store=store)
    # what the new selection does not have must go
    output.write(random, pool, None, tmp_path / "out", overwrite=True)
    assert (
        not (tmp_path / "out" / "errors.json").exists()
        and not (tmp_path / "out" / "errors.jsonl").exists()
    )
