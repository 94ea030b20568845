"""Rationales of the synthetic world, the rules that check their steps, and the rule-based
teacher."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tools.demo_model.judge_step import judge
from tools.demo_model.rationales import FACT_KINDS, answer_on, false_rationale, true_rationale
from tools.demo_model.teacher import SKILLS, SceneTeacher, handle, read_labels, read_scene

from thresher.demo.evaluation import make_evaluation
from thresher.demo.pool import make_pool
from thresher.demo.questions import KINDS, Question, ask, sample_question
from thresher.demo.scenes import Scene, Thing, grid_scene
from thresher.pools import open_pool
from thresher.signals.case import make_case
from thresher.signals.query import Query
from thresher.signals.reasoning import split_reasoning
from thresher.signals.row_skills import RowSkills

SCENE = grid_scene(
    [Thing(0, 0, "circle", "red"), Thing(1, 1, "circle", "blue"), Thing(2, 2, "square", "red")]
)
DIGITS = grid_scene([Thing(0, 0, "7", "red"), Thing(0, 1, "4", "red")])


def questions(kind: str, count: int) -> list[Question]:
    rng = Random(f"test {kind}")
    found: list[Question] = []
    while len(found) < count:
        question = sample_question(rng, kind, "development")
        if question.scene.large is None:
            found.append(question)
    return found


@pytest.mark.parametrize("kind", FACT_KINDS)
def test_correct_and_falsified_rationales(kind: str) -> None:
    rng, made = Random(1), 0
    for question in questions(kind, 25):
        true = true_rationale(question)
        judged = [judge(step, question.scene) for step in true.steps]
        assert all(j is not None and j.true for j in judged) and true.answer == question.answer
        false = false_rationale(rng, question)
        if false is None:
            continue
        made += 1
        judged = [judge(step, question.scene) for step in false.steps]
        assert [j is not None and j.true for j in judged].index(False) == false.false_step
        assert false.answer != question.answer
        found = split_reasoning(false.text)
        assert found.steps == false.steps and found.answer == false.answer
    assert made >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_generated_evidence_is_true(kind: str) -> None:
    for question in questions(kind, 25):
        for step in split_reasoning(f"{question.evidence} So the answer is x.").steps:
            judged = judge(step, question.scene)
            assert (judged is None) == (not question.evidence or step.startswith("I look for")), (
                step
            )
            assert judged is None or judged.true, (step, question.scene)


@pytest.mark.parametrize(
    ("step", "scene", "true", "skill"),
    [
        ("The red circle is at the top left.", SCENE, True, "position"),
        ("There is a red circle at the middle center.", SCENE, False, "position"),
        ("There is a green circle at the top left.", SCENE, False, "colour"),
        ("The red cross is at the top left.", SCENE, False, "shape"),
        ("There is a green cross at the top left.", SCENE, False, "existence"),
        ("I see no blue square.", SCENE, True, "existence"),
        ("I see no circles.", SCENE, False, "count"),
        ("I see circles at top left, middle center.", SCENE, True, "count"),
        ("I count 2 red objects.", SCENE, True, "count"),
        ("Circles: 2, squares: 2.", SCENE, False, "comparison"),
        ("Red circle: yes, blue square: yes.", SCENE, False, "logic"),
        ("I read 7 and 4.", DIGITS, True, "digits"),
        ("7 plus 4 is 12.", DIGITS, False, "arithmetic"),
        ("The character at the top center is 5.", DIGITS, False, "digits"),
    ],
)
def test_statements_by_hand(step: str, scene: Scene, true: bool, skill: str) -> None:
    judged = judge(step, scene)
    assert judged is not None and (judged.true, judged.skill) == (true, skill)


def test_statements_without_claims_are_neither_true_nor_false() -> None:
    assert (
        judge("I look for the red circle.", SCENE) is None and judge("Let me think.", SCENE) is None
    )


def test_answers_follow_from_scenes() -> None:
    rng = Random(0)
    for kind in FACT_KINDS:
        for question in questions(kind, 10):
            assert answer_on(question, question.scene) == question.answer
    count = next(
        q
        for q in (ask(rng, "count", SCENE) for _ in range(50))
        if q and q.slots["things"] == "circles"
    )
    assert count.answer == "2" and answer_on(count, grid_scene(SCENE.things[1:])) == "1"


def test_scenes_are_parsed_from_their_keys(tmp_path: Path) -> None:
    make_pool(tmp_path, 300)
    known = read_labels(tmp_path / "hidden_labels.jsonl")
    assert len(known) == 300
    assert any(s.bars for k in known.values() for s in k.scenes)
    for k in known.values():
        assert all(read_scene(s.key) == s for s in k.scenes)


def test_the_teacher_finds_the_false_step_and_names_skills(tmp_path: Path) -> None:
    file = make_evaluation(tmp_path, per_kind=2, split="development")
    known = read_labels(tmp_path / "evaluation_labels.jsonl")
    pool = open_pool(file, file.parent)
    teacher = SceneTeacher(known)
    sample = pool.sample(0)
    scene = next(iter(known.values())).scenes[0]
    thing = scene.things[0]
    other = "blue" if thing.colour != "blue" else "red"
    results = (
        f"There is a {thing.phrase} at the {thing.position}.",
        f"There is a {other} {thing.name} at the {thing.position}.",
    )
    text = f"1. {results[0]}\n2. {results[1]}\nAnswer: nothing"
    case = make_case(sample, text.replace("a orange", "an orange"), "nothing", ["a", "b"], 0.6)
    assert case is not None
    (piece,) = teacher.ask_incrementally(
        [case.sample], [case.pieces], Query("?", ("A", "B", "C", "D")), pool
    )
    right = piece.values["logprob"][0, :, case.right]
    assert right[0] == right[1] > right[2]
    rows = RowSkills(handle(known).identity)
    found: dict[int, str] = {}
    for p in rows.rows(pool.samples(range(26)), None, teacher, pool):
        found.update(zip(p.index.tolist(), p.values["skills"].tolist(), strict=True))
    assert [found[2 * k] for k in range(13)] == [SKILLS[kind] for kind in KINDS]


def test_labels_are_part_of_the_identity(tmp_path: Path) -> None:
    make_evaluation(tmp_path, per_kind=1)
    known = read_labels(tmp_path / "evaluation_labels.jsonl")
    fewer = dict(list(known.items())[1:])
    assert (
        handle(known).identity
        == handle(dict(reversed(known.items()))).identity
        != handle(fewer).identity
    )
