"""Generates the demo model's training conversations: captions, grounding, questions about scenes
given as text or image, demonstration-query pairs and chains of demonstrations. All use pretraining
scenes and none of the pool's wordings.

A conversation is a list of rounds; encoding and batching are in training.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from tools.demo_model.english import SENTENCES

from thresher.demo import scenes
from thresher.demo.captions import caption
from thresher.demo.noise import wrong_answer
from thresher.demo.plain_text import text_turn
from thresher.demo.questions import Question, ask, sample_question
from thresher.demo.render import render
from thresher.demo.scenes import Scene, Split
from thresher.demo.styles import phrase, style_of
from thresher.demo.wordings import WordingSet

# frequency of each kind with images; the last three are left for fine-tuning to teach
KIND_WEIGHTS = {
    "colour": 4,
    "shape": 4,
    "existence": 3,
    "position": 3,
    "count": 3,
    "digits": 2,
    "letters": 2,
    "chart": 2,
    "comparison": 1,
    "spatial": 1,
    "description": 1,
    "odd_one_out": 0.4,
    "logic": 0.4,
    "arithmetic": 0.4,
}
STYLE_WEIGHTS = {"word": 5, "sentence": 2, "steps": 1.5, "choice": 1.5}
_FAMILIES = (
    (
        "colour",
        "shape",
        "existence",
        "position",
        "count",
        "spatial",
        "comparison",
        "logic",
        "odd_one_out",
    ),
    ("digits", "arithmetic"),
    ("letters",),
    ("chart",),
)


@dataclass(frozen=True)
class Round:
    """One question and answer. `image`: uint8 [48, 48, 3], an image before the question;
    `learn`: whether the answer has a loss."""

    question: str
    answer: str
    image: np.ndarray | None = None
    learn: bool = True


Conversation = list[Round]


def weighted(rng: Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def any_scene(rng: Random, split: Split) -> Scene:
    """A random scene; one in eight is a large shape."""
    draw = rng.random()
    if draw < 0.125:
        return scenes.sample_in_split(rng, split, scenes.sample_large)
    if draw < 0.5:
        return scenes.sample_in_split(
            rng, split, lambda r: scenes.sample_shapes(r, 1, 5, r.random() < 0.5)
        )
    if draw < 0.8:
        length = rng.randint(1, 3)
        alphabet = scenes.DIGITS + scenes.LETTERS
        return scenes.sample_in_split(rng, split, lambda r: scenes.sample_text(r, alphabet, length))
    return scenes.sample_in_split(rng, split, scenes.sample_chart)


def caption_conversation(rng: Random, split: Split = "pretraining") -> Conversation:
    """A caption with positions, and questions about positions, in random order."""
    scene = any_scene(rng, split)
    rounds = []
    if scene.large or rng.random() < 0.6:
        rounds.append(Round("What is where?", caption(scene, places=True)))
    if rng.random() < 0.2:
        rounds.append(Round("Name all objects.", caption(scene, places=False)))
    for _ in range(3):
        if scene.things:
            thing = rng.choice(scene.things)
            rounds.append(Round(f"What is at the {thing.position}?", thing.phrase))
    if scene.things and rng.random() < 0.3:
        taken = [(t.row, t.column) for t in scene.things]
        row, column = rng.choice(
            [(r, c) for r in range(3) for c in range(3) if (r, c) not in taken]
        )
        rounds.append(
            Round(f"What is at the {scenes.ROWS[row]} {scenes.COLUMNS[column]}?", "nothing")
        )
    if scene.large:
        question = ask(rng, rng.choice(("colour", "shape", "existence")), scene)
        if question:
            turn = phrase(rng, question, "word", "pretraining", lowercase=rng.random() < 0.5)
            rounds.append(Round(turn.question, turn.answer))
    if not rounds:
        rounds.append(Round("What is where?", caption(scene, places=True)))
    rng.shuffle(rounds)
    return [replace(rounds[0], image=render(scene, rng)), *rounds[1:]]


def question_conversation(
    rng: Random, turns: int, as_text: bool, split: Split = "pretraining"
) -> Conversation:
    """Several questions about one scene, given as an image or in words."""
    family = rng.choices(_FAMILIES, (6, 2, 1, 1))[0]
    first = sample_question(rng, rng.choice(family), split)
    lowercase = rng.random() < 0.4
    rounds = []
    for k in range(turns):
        question = first if k == 0 else ask(rng, rng.choice(family), first.scene)
        if question is None:
            continue
        instruct = rng.random() < 0.6
        turn = phrase(
            rng,
            question,
            weighted(rng, STYLE_WEIGHTS),
            "pretraining",
            instruct=instruct,
            lowercase=lowercase,
        )
        rounds.append(Round(turn.question, turn.answer))
    if as_text:
        described = f"Scene: {caption(first.scene, places=True)}.\n{rounds[0].question}"
        return [replace(rounds[0], question=described), *rounds[1:]]
    return [replace(rounds[0], image=render(first.scene, rng)), *rounds[1:]]


def plain_conversation(rng: Random) -> Conversation:
    """A conversation without a scene: two facts or sums, or an English sentence to repeat."""
    if rng.random() < 0.3:
        text = rng.choice(SENTENCES)
        return [Round(f"Repeat: {text}", text)]
    turns = [text_turn(rng, "pretraining", instruct=rng.random() < 0.5) for _ in range(2)]
    return [Round(t.question, t.answer) for t in turns]


def language_conversation(rng: Random) -> Conversation:
    """A conversation of the language stage."""
    draw = rng.random()
    if draw < 0.42:
        return caption_conversation(rng)
    if draw < 0.67:
        return question_conversation(rng, 4, as_text=True)
    if draw < 0.97:
        return question_conversation(rng, 4, as_text=False)
    return plain_conversation(rng)


@dataclass(frozen=True)
class Format:
    """The answer format of a source: style, with or without a format instruction, short answers in
    lower case or not."""

    style: str
    instruct: bool
    lowercase: bool


def sample_format(rng: Random) -> Format:
    return Format(weighted(rng, STYLE_WEIGHTS), rng.random() < 0.4, rng.random() < 0.5)


def one_round(
    rng: Random, question: Question, form: Format, wording: WordingSet, wrong: bool = False
) -> Round:
    turn = phrase(
        rng,
        question,
        form.style,
        wording,
        instruct=form.instruct,
        lowercase=form.lowercase,
        wrong=wrong_answer(rng, question) if wrong else None,
    )
    return Round(turn.question, turn.answer, render(question.scene, rng), learn=not wrong)


def same_kind_question(rng: Random, question: Question, style: str, split: Split) -> Question:
    """A question of the same kind and style about a new scene."""
    while True:
        other = sample_question(rng, question.kind, split)
        if style_of(other, style) == style_of(question, style) and other.scene != question.scene:
            return other


def pair_conversation(rng: Random) -> Conversation:
    """A demonstration and a query, each with its own image; two in three of the same kind and
    format.

    One demonstration in eight is wrong; half of its queries then have a wrong answer too, as in a
    noisy source.
    """
    form = sample_format(rng)
    query = sample_question(rng, weighted(rng, KIND_WEIGHTS), "pretraining")
    if rng.random() < 0.67:
        shown, shown_form = same_kind_question(rng, query, form.style, "pretraining"), form
    else:
        shown, shown_form = (
            sample_question(rng, weighted(rng, KIND_WEIGHTS), "pretraining"),
            sample_format(rng),
        )
    bad = rng.random() < 0.125
    demonstration = one_round(rng, shown, shown_form, "pretraining", wrong=bad)
    answer = one_round(rng, query, form, "pretraining", wrong=bad and rng.random() < 0.5)
    return [demonstration, replace(answer, learn=True)]


def pair_stage_conversation(rng: Random) -> Conversation:
    """A conversation of the third stage: three pairs for each conversation of the language
    stage."""
    return pair_conversation(rng) if rng.random() < 0.75 else language_conversation(rng)


def chain_conversation(rng: Random) -> Conversation:
    """Two to four rounds, each with its own image, as from one source: one format, and four times
    in five one kind.

    A fifth of the chains change kind and format from round to round, so that the model does not
    always copy a demonstration. Of the chains of two, 15% begin with a wrong answer; half of these
    continue with one, as in a noisy source.
    """
    form = sample_format(rng)
    question = sample_question(rng, weighted(rng, KIND_WEIGHTS), "pretraining")
    constant = rng.random() < 0.8
    length = rng.choice((2, 2, 3, 4))
    bad = length == 2 and rng.random() < 0.15
    rounds = [one_round(rng, question, form, "refinement", wrong=bad)]
    for _ in range(length - 1):
        if constant:
            question = same_kind_question(rng, question, form.style, "pretraining")
        else:
            form = sample_format(rng)
            question = sample_question(rng, weighted(rng, KIND_WEIGHTS), "pretraining")
        wrong = bad and rng.random() < 0.5
        rounds.append(
            replace(one_round(rng, question, form, "refinement", wrong=wrong), learn=True)
        )
    return rounds


def refinement_conversation(rng: Random) -> Conversation:
    """A conversation of the fourth stage: three chains for each conversation of the language
    stage."""
    return chain_conversation(rng) if rng.random() < 0.75 else language_conversation(rng)


def corpus(seed: int, count: int = 6000) -> Sequence[str]:
    """Texts of both wording sets to train the tokenizer on; the model is not trained on the pool's
    wordings."""
    rng = Random(seed)
    texts: list[str] = list(SENTENCES) * 5
    for _ in range(count):
        wording: WordingSet = "pool" if rng.random() < 0.5 else "pretraining"
        question = sample_question(rng, weighted(rng, KIND_WEIGHTS), "pretraining")
        form = sample_format(rng)
        turn = phrase(
            rng, question, form.style, wording, instruct=form.instruct, lowercase=form.lowercase
        )
        if question.kind != "letters":  # so that letters are never merged with each other
            texts += [turn.question, turn.answer]
    for _ in range(count // 4):
        texts += [
            r.question + "\n" + r.answer
            for r in caption_conversation(rng)
            if not any(c.isupper() for c in r.answer)
        ]
        turn = text_turn(rng, "pool")
        texts += [turn.question, turn.answer]
    return texts
