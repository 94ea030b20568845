"""Text-only questions: simple facts and sums, for the text-only rows of a pool and for pretraining.

The pool and pretraining use different facts and different wordings.
"""

from random import Random

from thresher.demo.styles import Turn, capitalised
from thresher.demo.wordings import WordingSet, instruction_wordings

_COLOURS: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "orange")
_POOL_COLOURS = {
    "grass": "green",
    "the sky": "blue",
    "a tomato": "red",
    "a banana": "yellow",
    "a carrot": "orange",
    "a plum": "purple",
    "the sea": "blue",
    "a leaf": "green",
}
_PRETRAINING_COLOURS = {
    "a cherry": "red",
    "a lemon": "yellow",
    "a frog": "green",
    "a pumpkin": "orange",
    "an eggplant": "purple",
    "a blueberry": "blue",
}
_POOL_YES_NO = {
    "Can a fish swim?": True,
    "Is ice hot?": False,
    "Is the sky green?": False,
    "Can a bird fly?": True,
    "Is water wet?": True,
    "Can a stone swim?": False,
    "Is snow warm?": False,
    "Has a dog four legs?": True,
}
_PRETRAINING_YES_NO = {
    "Is fire hot?": True,
    "Can a cat fly?": False,
    "Is sugar sweet?": True,
    "Is a mouse large?": False,
}


def text_turn(
    rng: Random, wording: WordingSet, *, instruct: bool = True, noisy: bool = False
) -> Turn:
    """A random text-only turn.

    Arguments:
        rng: random generator.
        wording: "pool" or that of pretraining.
        instruct: add a format instruction.
        noisy: use a wrong answer of the same type.
    """
    pool = wording == "pool"
    draw = rng.random()
    style, candidates = "word", _COLOURS
    if draw < 0.35:
        facts = _POOL_COLOURS if pool else _PRETRAINING_COLOURS
        thing = rng.choice(list(facts))
        question = f"What colour is {thing}?" if pool else f"Name the color of {thing}."
        answer = facts[thing]
    elif draw < 0.6:
        truths = _POOL_YES_NO if pool else _PRETRAINING_YES_NO
        question = rng.choice(list(truths))
        answer, candidates, style = ("yes" if truths[question] else "no"), ("yes", "no"), "yesno"
    else:
        x, y = rng.randint(1, 6), rng.randint(1, 6)
        question = f"What is {x} plus {y}?" if pool else f"Add {x} and {y}."
        answer, candidates = str(x + y), tuple(str(v) for v in range(2, 13))
    if noisy:
        answer = rng.choice([c for c in candidates if c != answer])
    if instruct:
        question += "\n" + rng.choice(instruction_wordings(style, wording))
    return Turn(
        question,
        capitalised(answer),
        "text_only",
        style,
        noisy,
        tuple(capitalised(c) for c in candidates),
    )
