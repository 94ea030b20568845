"""Parse skills from a teacher's text: short phrases, one per line, normalised. What is not a skill
is left out.

A skill is a phrase of 1 to 12 words. Markers ("1.", "-", "Skill:") and a full stop are removed,
case and white space are normalised.
"""

from __future__ import annotations

import re

from thresher.answers.parsing import strip_reasoning

MOST_WORDS = 12
_MARKER = re.compile(
    r"^\s*(?:[-*•–]\s+|\(?\d{1,2}[.):]\s*|(?:missing |required )?skills?\s*(?:\d+\s*)?:\s*)+",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_EMPTY = ("no", "yes", "none", "n/a", "no skill", "nothing", "unknown", "null")


def read_skills(text: str, most: int) -> tuple[str, ...]:
    r"""The first `most` distinct skills in a text.

    Arguments:
        text: a teacher's answer.
        most: maximum number of skills.

    >>> read_skills("1. Counting objects.\n2. Reading  digits\n- counting objects", 3)
    ('counting objects', 'reading digits')
    >>> read_skills("counting objects, reading digits; comparing bars", 2)
    ('counting objects', 'reading digits')
    >>> read_skills("none", 3), read_skills("7", 3), read_skills("<think>Counting objects, or", 3)
    ((), (), ())
    """
    text = strip_reasoning(text)
    lines = [
        line for line in text.replace("\r", "\n").replace("**", "").split("\n") if line.strip()
    ]
    if len(lines) == 1:
        lines = re.split(r"[;,]\s+(?:and\s+)?", lines[0])
    found: dict[str, None] = {}
    for line in lines:
        phrase = " ".join(_MARKER.sub("", line).strip(" .:;\"'`").casefold().split())
        if _WORD.search(phrase) and len(phrase.split()) <= MOST_WORDS and phrase not in _EMPTY:
            found[phrase] = None
    return tuple(found)[:most]
