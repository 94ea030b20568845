"""Generates rationales for questions of the synthetic world, correct or with one falsified step.

A rationale states every fact of the scene and then, for some kinds, a conclusion. A falsified one
changes a single fact or the conclusion so that the final answer becomes wrong; later steps are
consistent with the false one. No image is rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from thresher.demo import scenes
from thresher.demo.questions import Question, plural
from thresher.demo.scenes import Scene, Thing
from thresher.demo.styles import with_articles

FACT_KINDS = (
    "colour",
    "shape",
    "position",
    "existence",
    "count",
    "spatial",
    "comparison",
    "chart",
    "logic",
    "arithmetic",
    "digits",
    "letters",
)
"""Kinds with rationales: those whose answer follows from facts that can be stated one by one."""
ATTEMPTS = 100


@dataclass(frozen=True)
class Rationale:
    """A rationale. `false_step`: index of the first false step, from 0; -1: none."""

    steps: tuple[str, ...]
    answer: str
    false_step: int = -1

    @property
    def text(self) -> str:
        numbered = [f"{k}. {step}" for k, step in enumerate(self.steps, 1)]
        return "\n".join([*numbered, f"Answer: {self.answer}"])


def true_rationale(question: Question) -> Rationale:
    """The correct rationale of a question of one of FACT_KINDS."""
    answer = answer_on(question, question.scene)
    assert answer == question.answer, (question, answer)
    return Rationale(tuple(_facts(question, question.scene)), answer)


def false_rationale(rng: Random, question: Question) -> Rationale | None:
    """A rationale with one falsified step that makes the answer wrong; None if no single step can
    ("a or b", both present)."""
    true = true_rationale(question)
    for _ in range(ATTEMPTS):
        if _conclusion(question, question.scene) and rng.random() < 0.3:
            wrong = _miscounted(rng, question)
            if wrong is not None:
                return wrong
        scene = _changed(rng, question.scene)
        answer = answer_on(question, scene)
        steps = tuple(_facts(question, scene))
        if answer is None or answer == true.answer or len(steps) != len(true.steps):
            continue
        differ = [k for k, (a, b) in enumerate(zip(steps, true.steps, strict=True)) if a != b]
        if differ:
            return Rationale(steps, answer, differ[0])
    return None


def answer_on(question: Question, scene: Scene) -> str | None:
    """The answer to the question for another scene; None if it has none there."""
    slots, topic = question.slots, question.topic
    things = scene.things
    if topic == "colour":
        return _only([t.colour for t in things if t.name == slots["name"]])
    if topic == "shape":
        return _only([t.name for t in things if t.colour == slots["colour"] and len(t.name) > 1])
    if topic == "position":
        return _only(
            [t.position for t in things if t.phrase == (f"{slots['colour']} {slots['name']}")]
        )
    if topic == "existence":
        return _yes(any(t.phrase == f"{slots['colour']} {slots['name']}" for t in things))
    if topic == "count":
        return str(sum(counted(t, slots["things"]) for t in things))
    if topic == "spatial":
        return _relation(things, slots["first"], slots["second"])
    if topic == "comparison":
        a, b = (sum(plural(t.name) == slots[k] for t in things) for k in ("first", "second"))
        return None if a == b else slots["first"] if a > b else slots["second"]
    if topic == "logic":
        there = [any(t.phrase == slots[k] for t in things) for k in ("first", "second")]
        return _yes(all(there) if slots["operator"] == "and" else any(there))
    if topic in ("digits", "letters"):
        return "".join(t.name for t in things if len(t.name) == 1) or None
    if topic in ("sum", "larger"):
        digits = [int(t.name) for t in things if t.name.isdigit()]
        return None if len(digits) != 2 else str(sum(digits) if topic == "sum" else max(digits))
    if topic == "chart_value":
        return _only([str(b.height) for b in scene.bars if b.colour == slots["colour"]])
    if topic == "chart_extreme":
        pick = max if slots["extreme"] == "highest" else min
        ends = pick(b.height for b in scene.bars)
        return _only([b.colour for b in scene.bars if b.height == ends])
    return None


def counted(thing: Thing, things: str) -> bool:
    """Whether an object is one of `things`, such as "circles" or "red objects"."""
    return things in (plural(thing.name), f"{thing.colour} objects")


def fact(thing: Thing) -> str:
    if len(thing.name) == 1:
        return f"The character at the {thing.position} is {thing.name}."
    return with_articles(f"There is a {thing.phrase} at the {thing.position}.")


def _facts(question: Question, scene: Scene) -> list[str]:
    facts = [fact(t) for t in scene.things] + [
        f"The {b.colour} bar is {b.height} high." for b in scene.bars
    ]
    end = _conclusion(question, scene)
    return facts + ([end] if end else [])


def _conclusion(question: Question, scene: Scene) -> str:
    if question.topic == "count":
        return f"I count {answer_on(question, scene)} {question.slots['things']}."
    if question.topic == "sum":
        digits = [t.name for t in scene.things if t.name.isdigit()]
        return (
            f"{digits[0]} plus {digits[1]} is {answer_on(question, scene)}."
            if len(digits) == 2
            else ""
        )
    return ""


def _miscounted(rng: Random, question: Question) -> Rationale | None:
    """A rationale with correct facts and a wrong conclusion."""
    true = true_rationale(question)
    others = [c for c in question.candidates if c != question.answer]
    if not others:
        return None
    wrong = rng.choice(others)
    before, _, after = (
        true.steps[-1].rpartition(question.answer)
        if question.topic == "sum"
        else (true.steps[-1].partition(question.answer))
    )
    return Rationale((*true.steps[:-1], f"{before}{wrong}{after}"), wrong, len(true.steps) - 1)


def _changed(rng: Random, scene: Scene) -> Scene:
    """The scene with one object's colour, name or cell, or one bar's height, changed."""
    if scene.bars:
        at = rng.randrange(len(scene.bars))
        free = [h for h in range(1, scenes.MAX_BAR + 1) if h not in [b.height for b in scene.bars]]
        bars = [
            replace(b, height=rng.choice(free)) if k == at else b for k, b in enumerate(scene.bars)
        ]
        return Scene(bars=tuple(bars))
    at = rng.randrange(len(scene.things))
    thing = scene.things[at]
    what = rng.choice(("colour", "name", "cell"))
    if what == "colour":
        new = replace(thing, colour=_other(rng, scenes.COLOURS, thing.colour))
    elif what == "name":
        alphabet: Sequence[str] = scenes.SHAPES
        if len(thing.name) == 1:
            alphabet = scenes.DIGITS if thing.name.isdigit() else scenes.LETTERS
        new = replace(thing, name=_other(rng, alphabet, thing.name))
    else:
        taken = [(t.row, t.column) for t in scene.things]
        row, column = rng.choice(
            [(r, c) for r in range(3) for c in range(3) if (r, c) not in taken]
        )
        new = replace(thing, row=row, column=column)
    # replaced in place, so that the other facts keep their order
    return Scene(things=tuple(new if k == at else t for k, t in enumerate(scene.things)))


def _other(rng: Random, values: Sequence[str], this: str) -> str:
    return rng.choice([v for v in values if v != this])


def _relation(things: Sequence[Thing], first: str, second: str) -> str | None:
    a, b = ([t for t in things if t.phrase == p] for p in (first, second))
    if len(a) != 1 or len(b) != 1 or (a[0].row != b[0].row) == (a[0].column != b[0].column):
        return None
    if a[0].row == b[0].row:
        return "left" if a[0].column < b[0].column else "right"
    return "above" if a[0].row < b[0].row else "below"


def _only(values: list[str]) -> str | None:
    return values[0] if len(values) == 1 else None


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"
