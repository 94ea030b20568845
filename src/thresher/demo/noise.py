"""Label noise: wrong answers of the same type as the correct ones."""

from random import Random

from thresher.demo.questions import Question, sample_question
from thresher.demo.scenes import DIGITS, LETTERS


def wrong_answer(rng: Random, question: Question) -> str:
    """A random answer of the same type that differs from the correct one.

    Arguments:
        rng: random number generator.
        question: with the correct answer.
    """
    if question.candidates:
        return rng.choice([c for c in question.candidates if c != question.answer])
    if question.kind == "description":
        return _other_caption(rng, question)
    alphabet = DIGITS if question.kind == "digits" else LETTERS
    while True:
        text = "".join(rng.choice(alphabet) for _ in question.answer)
        if text != question.answer:
            return text


def _other_caption(rng: Random, question: Question) -> str:
    while True:
        other = sample_question(rng, "description", question.scene.split).answer
        if other != question.answer:
            return other
