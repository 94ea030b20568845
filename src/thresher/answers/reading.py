"""Which candidate a generated text means, so that "B. a dog" or "Yes, there is." counts where the answer is B or yes.

Only for rows whose candidates are known. Strict: a text that could mean two candidates, or none clearly, stays as it is
and is then compared as a whole.
"""

from __future__ import annotations

import re

from thresher.answers.candidates import PAIRS, Candidates
from thresher.answers.normalise import normalise
from thresher.answers.prose import named_option

_WORD_FIRST = re.compile(r"\W*(\w+)\s*(?:[,.;:!]|$)")


def read(text: str, offered: Candidates) -> str:
    """The candidate that `text` means, else `text` itself.

    >>> letters = Candidates(("A", "B"), ("A", "B"), ("a cat", "a dog"))
    >>> [read(t, letters) for t in ("B. a dog", "(A)", "A dog.", "The answer is B", "A big dog")]
    ['B', 'A', 'B', 'B', 'A big dog']
    >>> [read(t, Candidates(("yes", "no"))) for t in ("Yes, it is.", "no", "No dogs are red.")]
    ['yes', 'no', 'No dogs are red.']
    """
    plain = normalise(text)
    forms = [normalise(c) for c in offered.texts]
    if plain in forms:
        return offered.texts[forms.index(plain)]
    if offered.letters:
        says = [normalise(o) for o in offered.options]
        if says.count(plain) == 1:
            return offered.texts[says.index(plain)]
        if (at := named_option(text, offered.letters)) is not None:
            return offered.texts[at]
    elif tuple(forms) in PAIRS and (first := _WORD_FIRST.match(text)) and normalise(first[1]) in forms:
        return offered.texts[forms.index(normalise(first[1]))]
    return text
