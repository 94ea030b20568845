"""English function words, which carry little of a text's content.

DICS (arXiv:2608.30209) gives them the weight 0.1; its list is not public, this one is ours. A
change to the list changes the values of `WordLoss` and `QuestionLoss`: raise their `version`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

# a run of letters, including parts joined by an apostrophe: don't, dog's
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


@cache
def function_words() -> frozenset[str]:
    """The words of `function_words.txt`, in lower case."""
    text = files(__package__).joinpath("function_words.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return frozenset(word for line in lines for word in line.split())


def function_word_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each function word in the text, in order; digits and punctuation excluded.

    >>> [text[a:b] for text in ["The cat\u2019s on it."] for a, b in function_word_spans(text)]
    ['The', 'on', 'it']
    """
    known = function_words()
    found = [(m.start(), m.end(), m[0]) for m in _WORD.finditer(text)]
    return [(a, b) for a, b, word in found if word.lower().replace("\u2019", "'") in known]
