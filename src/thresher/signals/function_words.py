"""Function words of English, which say little about what a text is about (DICS, arXiv:2608.30209,
weighs them 0.1; its list is not public, this one is ours).

Another list changes the numbers of `WordLoss` and `QuestionLoss`: raise their `version` with it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

# a run of letters, with what hangs on it by an apostrophe: don't, dog's
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


@cache
def function_words() -> frozenset[str]:
    """The words of `function_words.txt`, in lower case."""
    text = files(__package__).joinpath("function_words.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return frozenset(word for line in lines for word in line.split())


def function_word_spans(text: str) -> list[tuple[int, int]]:
    """The character spans of the function words, in order. Digits and punctuation are in none.

    >>> [text[a:b] for text in ["The cat\u2019s on it."] for a, b in function_word_spans(text)]
    ['The', 'on', 'it']
    """
    known = function_words()
    found = [(m.start(), m.end(), m[0]) for m in _WORD.finditer(text)]
    return [(a, b) for a, b, word in found if word.lower().replace("\u2019", "'") in known]
