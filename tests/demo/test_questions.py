"""Answers are correct for scenes built by hand; noise is never the correct answer."""

from random import Random

import pytest

from thresher.demo.captions import caption
from thresher.demo.noise import wrong_answer
from thresher.demo.questions import KINDS, ask, sample_question
from thresher.demo.scenes import Bar, Large, Scene, Thing, grid_scene
from thresher.demo.styles import STYLES, phrase
from thresher.demo.wordings import INSTRUCTIONS, QUESTIONS, instruction_wordings, question_wordings

SHAPES = grid_scene(
    [Thing(0, 0, "circle", "red"), Thing(0, 2, "circle", "blue"), Thing(2, 2, "square", "red")]
)


def answers(kind: str, scene: Scene) -> dict[tuple[str, ...], str]:
    """Every question of the kind that the scene allows, by topic and slots."""
    found = {}
    for seed in range(400):
        question = ask(Random(seed), kind, scene)
        if question is not None:
            key = (question.topic, *(question.slots[k] for k in sorted(question.slots)))
            assert found.setdefault(key, question.answer) == question.answer
    return found


def test_answers_about_shapes() -> None:
    assert answers("colour", SHAPES) == {("colour", "square"): "red"}
    assert answers("shape", SHAPES) == {("shape", "blue"): "circle"}
    assert answers("position", SHAPES) == {
        ("position", "red", "circle"): "top left",
        ("position", "blue", "circle"): "top right",
        ("position", "red", "square"): "bottom right",
    }
    spatial = answers("spatial", SHAPES)
    assert spatial[("spatial", "red circle", "blue circle")] == "left"
    assert spatial[("spatial", "blue circle", "red circle")] == "right"
    assert spatial[("spatial", "red square", "blue circle")] == "below"
    assert spatial[("spatial", "blue circle", "red square")] == "above"
    assert ("spatial", "red circle", "red square") not in spatial  # a diagonal has no single answer
    assert set(answers("comparison", SHAPES).values()) == {"circles"}


def test_existence_count_and_logic() -> None:
    existence = answers("existence", SHAPES)
    assert existence[("existence", "red", "square")] == "yes"
    assert existence[("existence", "blue", "square")] == "no"
    count = answers("count", SHAPES)
    assert count[("count", "circles")] == "2"
    assert count[("count", "red objects")] == "2"
    assert count[("count", "diamonds")] == "0"
    here = ("red circle", "blue circle", "red square")
    for (_, first, operator, second), answer in answers("logic", SHAPES).items():
        truth = (
            (first in here and second in here)
            if operator == "and"
            else (first in here or second in here)
        )
        assert answer == ("yes" if truth else "no")


def test_text_chart_odd_and_large() -> None:
    written = grid_scene(
        [Thing(1, 0, "7", "red"), Thing(1, 1, "4", "red"), Thing(0, 0, "cross", "blue")]
    )
    assert answers("digits", written) == {("digits",): "74"}
    assert answers("arithmetic", written) == {("sum",): "11", ("larger",): "7"}
    assert answers("letters", grid_scene([Thing(1, 0, "K", "red"), Thing(1, 1, "A", "red")])) == {
        ("letters",): "KA"
    }
    chart = answers("chart", Scene(bars=(Bar(0, "red", 2), Bar(2, "green", 5))))
    assert chart[("chart_value", "green")] == "5"
    assert chart[("chart_extreme", "highest")] == "green"
    assert chart[("chart_extreme", "lowest")] == "red"
    odd = grid_scene(
        [Thing(0, c, "circle", "red") for c in range(3)] + [Thing(1, 1, "cross", "red")]
    )
    assert answers("odd_one_out", odd) == {("odd_one_out",): "cross"}
    large = Scene(large=Large("rectangle", "teal", (5, 5, 30, 20)))
    assert answers("colour", large) == {("colour", "rectangle"): "teal"}
    assert answers("shape", large) == {("shape", "teal"): "rectangle"}
    assert caption(large, places=True) == "one large teal rectangle"


@pytest.mark.parametrize("kind", [*KINDS, "description"])
def test_wrong_answers_and_styles(kind: str) -> None:
    rng = Random(3)
    for _ in range(20):
        question = sample_question(rng, kind, "pool")
        assert question.scene.split == "pool"
        assert wrong_answer(rng, question) != question.answer
        for style in STYLES[:5]:
            turn = phrase(rng, question, style, "pool")
            assert turn.question and turn.answer and "{" not in turn.question + turn.answer
            if turn.style == "choice":
                displayed = dict(
                    line.split(". ", 1) for line in turn.question.splitlines() if line[1:3] == ". "
                )
                assert displayed[turn.answer] == question.answer


def test_no_training_stage_has_a_wording_of_the_pool() -> None:
    for wordings, names in ((question_wordings, QUESTIONS), (instruction_wordings, INSTRUCTIONS)):
        for name in names:
            pool = {w for w in wordings(name, "pool") if w}
            for stage in ("pretraining", "refinement"):
                assert not pool & {w for w in wordings(name, stage) if w}
