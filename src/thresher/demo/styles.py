"""Writes a question as one turn: wording, format instruction, answer style, correct or wrong.

Styles: yesno, word, sentence, steps, choice, description.
"""

import re
from dataclasses import dataclass
from random import Random

from thresher.demo.questions import Question
from thresher.demo.wordings import SENTENCES, WordingSet, instruction_wordings, question_wordings

STYLES = ("yesno", "word", "sentence", "steps", "choice", "description")
_RELATIONS = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}


@dataclass(frozen=True)
class Turn:
    """One question and its answer as text, with the hidden labels: kind, style, noise."""

    question: str
    answer: str
    kind: str
    style: str
    noisy: bool
    candidates: tuple[str, ...] = ()


def style_of(question: Question, style: str) -> str:
    """The style used for a question if the requested one may not apply.

    Arguments:
        question: to be answered.
        style: the requested one, of STYLES.
    """
    if question.kind == "description":
        return "description"
    yes_no = question.answer in ("yes", "no")
    if style in ("word", "yesno"):
        return "yesno" if yes_no else "word"
    if style == "choice" and (yes_no or len(question.candidates) < 2):
        return "yesno" if yes_no else "word"
    return style


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_articles(text: str) -> str:
    """Replace "a orange" by "an orange", the only name here that begins with a vowel."""
    return re.sub(r"\b([Aa]) orange\b", r"\1n orange", text)


def _sentence(question: Question, answer: str) -> str:
    """The answer as a sentence."""
    slots = dict(question.slots, answer=answer)
    if question.topic in ("existence", "logic"):
        slots["answer"] = capitalised(answer)
        slots["article"] = "a" if answer == "yes" else "no"
        slots["truth"] = "true" if answer == "yes" else "false"
    if question.topic == "spatial":
        slots["relation"] = _RELATIONS[answer]
    return SENTENCES[question.topic].format(**slots)


def phrase(
    rng: Random,
    question: Question,
    style: str,
    wording: WordingSet,
    *,
    instruct: bool = True,
    lowercase: bool = False,
    wrong: str | None = None,
) -> Turn:
    """Write a question as a turn.

    Arguments:
        rng: for wording, options and instruction.
        question: the question.
        style: requested answer style, one of STYLES.
        wording: set of wordings.
        instruct: add a format instruction.
        lowercase: write short answers as "red" instead of "Red".
        wrong: a wrong answer to use; None: the correct one.
    """
    style = style_of(question, style)
    answer = question.answer if wrong is None else wrong
    text = rng.choice(question_wordings(question.topic, wording)).format(**question.slots)
    candidates: tuple[str, ...] = ()
    if style == "choice":
        others = [c for c in question.candidates if c not in (question.answer, answer)]
        required = [question.answer] + ([answer] if wrong is not None else [])
        options = required + rng.sample(others, min(4 - len(required), len(others)))
        rng.shuffle(options)
        text += "".join(f"\n{'ABCD'[k]}. {option}" for k, option in enumerate(options))
        candidates = tuple("ABCD"[: len(options)])
        reply = "ABCD"[options.index(answer)]
    elif style in ("word", "yesno"):
        reply = answer if lowercase else capitalised(answer)
        candidates = tuple(c if lowercase else capitalised(c) for c in question.candidates)
    elif style == "description":
        reply = capitalised(answer) + "."
    elif style == "sentence":
        reply = _sentence(question, answer)
    else:
        reply = f"{capitalised(question.evidence)} So the answer is {answer}.".strip()
    instruction = rng.choice(instruction_wordings(style, wording)) if instruct else ""
    if instruction:
        text += "\n" + instruction
    text, reply = with_articles(text), with_articles(reply)
    return Turn(text, reply, question.kind, style, wrong is not None, candidates)
