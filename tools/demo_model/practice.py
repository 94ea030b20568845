"""The conversations of the demo model's last training stage: many look-ups in one picture, mixed
with chains.

They use pretraining scenes and none of the pool's wordings, as everything in curriculum.py does.
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


def lesson_conversation(rng: Random) -> Conversation:
    """Up to five short questions about one picture, all in one format: much to look up for few
    tokens."""
    form = replace(sample_format(rng), style=rng.choice(("word", "word", "word", "sentence")))
    question = sample_question(rng, weighted(rng, KIND_WEIGHTS), "pretraining")
    rounds = [one_round(rng, question, form, "refinement")]
    for _ in range(4):
        more = ask(rng, weighted(rng, KIND_WEIGHTS), question.scene, attempts=4)
        if more is not None and more.kind != "description":
            rounds.append(replace(one_round(rng, more, form, "refinement"), picture=None))
    return rounds


def drill_conversation(rng: Random) -> Conversation:
    """Eight very short look-ups in one picture: a shape's colour and place, a colour's shape and
    place, a thing's place.

    Looking a thing up by what it is, not by where it is, is what the model learns last; this is the
    cheapest practice.
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
    return [replace(rounds[0], picture=render(scene, rng)), *rounds[1:]]


def practice_conversation(rng: Random) -> Conversation:
    """The mixture of the last stage: drills, lessons and chains."""
    draw = rng.random()
    if draw < 0.45:
        return drill_conversation(rng)
    return lesson_conversation(rng) if draw < 0.75 else chain_conversation(rng)
