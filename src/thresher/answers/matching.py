"""Match generated text to a candidate, so that "B. a dog" or "Yes, there is." count as B or yes.

Only for rows with known candidates. Strict: a text that could mean two candidates, or none clearly,
is left unchanged and then compared as a whole.
"""

from __future__ import annotations

import re

from thresher.answers.candidates import PAIRS, Candidates
from thresher.answers.normalise import normalise
from thresher.answers.parsing import parse_option

_WORD_FIRST = re.compile(r"\W*(\w+)\s*(?:[,.;:!]|$)")


def match_candidate(text: str, offered: Candidates) -> str:
    """The candidate that `text` means, else `text` unchanged.

    Arguments:
        text: an answer, such as the model's.
        offered: the candidates that it may mean.

    >>> letters = Candidates(("A", "B"), ("A", "B"), ("a cat", "a dog"))
    >>> [match_candidate(t, letters) for t in ("B. a dog", "(A)", "A dog.", "The answer is B",
    ...     "A big dog")]
    ['B', 'A', 'B', 'B', 'A big dog']
    >>> [match_candidate(t, Candidates(("yes", "no"))) for t in ("Yes, it is.", "no",
    ...     "No dogs are red.")]
    ['yes', 'no', 'No dogs are red.']
    """
    plain = normalise(text)
    forms = [normalise(c) for c in offered.texts]
    if plain in forms:
        return offered.texts[forms.index(plain)]
    if offered.letters:
        option_texts = [normalise(o) for o in offered.options]
        if option_texts.count(plain) == 1:
            return offered.texts[option_texts.index(plain)]
        if (index := parse_option(text, offered.letters)) is not None:
            return offered.texts[index]
    elif (
        tuple(forms) in PAIRS
        and (first := _WORD_FIRST.match(text))
        and normalise(first[1]) in forms
    ):
        return offered.texts[forms.index(normalise(first[1]))]
    return text
