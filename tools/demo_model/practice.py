"""Generates the conversations of the demo model's last training stage: many questions about one
image, mixed with chains.

They use pretraining scenes and none of the pool's wordings, like curriculum.py.
"""

from dataclasses import replace
from random import Random

from tools.demo_model.curriculum import (
    KIND_WEIGHTS,
    Conversation,
    Round,
    chain_conversation,
    one_round,
    sample_format,
    weighted,
)

from thresher.demo import scenes
from thresher.demo.questions import ask, sample_question
from thresher.demo.render import render


def several_questions_conversation(rng: Random) -> Conversation:
    """Up to five short questions about one image, all in one format."""
    form = replace(sample_format(rng), style=rng.choice(("word", "word", "word", "sentence")))
    question = sample_question(rng, weighted(rng, KIND_WEIGHTS), "pretraining")
    rounds = [one_round(rng, question, form, "refinement")]
    for _ in range(4):
        more = ask(rng, weighted(rng, KIND_WEIGHTS), question.scene, attempts=4)
        if more is not None and more.kind != "description":
            rounds.append(replace(one_round(rng, more, form, "refinement"), image=None))
    return rounds


def short_questions_conversation(rng: Random) -> Conversation:
    """Eight very short questions about one image: a shape's colour and position, a colour's shape
    and position, an object's position.

    Finding an object by its attributes instead of its position is what the model learns last; this
    is the cheapest training data for it.
    """
    scene = scenes.sample_in_split(
        rng, "pretraining", lambda r: scenes.sample_shapes(r, 2, 5, distinct=True)
    )
    names, colours = [t.name for t in scene.things], [t.colour for t in scene.things]
    rounds: list[Round] = []
    while len(rounds) < 8:
        thing, draw = rng.choice(scene.things), rng.random()
        if draw < 0.35 and names.count(thing.name) == 1:
            rounds.append(Round(f"{thing.name}?", f"{thing.colour}, {thing.position}"))
        elif 0.35 <= draw < 0.7 and colours.count(thing.colour) == 1:
            rounds.append(Round(f"{thing.colour}?", f"{thing.name}, {thing.position}"))
        elif 0.7 <= draw < 0.85:
            rounds.append(Round(f"{thing.phrase}?", f"yes, {thing.position}"))
        elif draw >= 0.85:
            other = f"{rng.choice(colours)} {rng.choice(names)}"
            if other not in [t.phrase for t in scene.things]:
                rounds.append(Round(f"{other}?", "no"))
    return [replace(rounds[0], image=render(scene, rng)), *rounds[1:]]


def practice_conversation(rng: Random) -> Conversation:
    """A conversation of the last stage: several questions about one image, or a chain."""
    draw = rng.random()
    if draw < 0.45:
        return short_questions_conversation(rng)
    return several_questions_conversation(rng) if draw < 0.75 else chain_conversation(rng)
