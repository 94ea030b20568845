"""Questions without the request for a short answer, and answers as sentences.

A base model that was trained on the pool's own form of question and answer has little to learn from
the pool: 300 random rows and all 3,000 would train nearly the same model, and no method could
differ from random. So the base learns from other pictures what they show, and answers in sentences,
as models do before instruction tuning; "Answer with a word or a short phrase." is only in the pool.
"""

from __future__ import annotations

import re

REQUESTS = (" Answer with a word or a short phrase.", " Answer yes or no.")


def as_sentences(kind: str, question: str, answer: str) -> tuple[str, str]:
    """(question, answer) of a row in the base model's form; ValueError for an unknown kind.

    >>> as_sentences("colour", "What colour is the dog? Answer with a word or a short phrase.",
    ...     "brown")
    ('What colour is the dog?', 'The dog is brown.')
    >>> as_sentences("existence", "Is there a man in the picture? Answer yes or no.", "No")[1]
    'There is no man in the picture.'
    """
    for request in REQUESTS:
        question = question.removesuffix(request)
    yes = answer == "Yes"
    match kind:
        case "caption":
            return question, answer
        case "object" | "thumbnail":
            return question, f"The picture shows {_article(answer)}."
        case "garment":
            return question, f"The garment is called {answer}."
        case "place":
            return question, f"The place is {answer}."
        case "activity":
            return question, f"Someone is {answer}."
        case "colour":
            return question, f"The {_part(r'is the (.+)[?]$', question)} is {answer}."
        case "number":
            things = _part(r"How many (.+) are in", question)
            return question, f"There are {answer} {things} in the picture."
        case "existence":
            thing = _part(r"Is there (.+) in the picture", question)
            if yes:
                return question, f"There is {thing} in the picture."
            return question, f"There is no {re.sub('^an? ', '', thing)} in the picture."
        case "match":
            does = "describes" if yes else "does not describe"
            return question, f"The text {does} the picture."
    raise ValueError(f"no sentence for questions of the kind {kind}")


def _part(pattern: str, question: str) -> str:
    found = re.search(pattern, question)
    if found is None:
        raise ValueError(f"unexpected question: {question}")
    return found[1]


def _article(name: str) -> str:
    """
    >>> _article("airplane"), _article("car side"), _article("scissors")
    ('an airplane', 'a car side', 'a scissors')
    """
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
