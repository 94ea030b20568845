"""Classifies the style of an answer (yes or no, a number, a sentence, steps, …) by its text."""

from __future__ import annotations

import re
from collections.abc import Sequence

STYLES = (
    "yes or no",
    "letter of a choice",
    "number",
    "coordinates",
    "word or short phrase",
    "one sentence",
    "several sentences",
    "list or steps",
    "code or markup",
)
MAX_CHARS = 20_000  # characters of an answer that are inspected

_COORDINATES = re.compile(r"\[\s*-?\d+(\.\d+)?(\s*,\s*-?\d+(\.\d+)?){1,}\s*\]|<(box|point|ref|loc)")
_STEPS = re.compile(r"^[ \t]*([-*•]|\d{1,2}[.)]|step \d+)\s+\S", re.I | re.M)


def answer_style(answer: str) -> str:
    """The style of an answer, one of STYLES.

    >>> [answer_style(a) for a in ("Yes.", "B", "12", "dark red", "The cube is red.",
    ...     "It is red. So: yes.")]
    ['yes or no', 'letter of a choice', 'number', 'word or short phrase', 'one sentence',
     'several sentences']
    >>> [answer_style(a) for a in ("[0.1, 0.2, 0.5, 0.9]", "1. Look.\\n2. Count.",
    ...     "```python\\nx = 1\\n```", "")]
    ['coordinates', 'list or steps', 'code or markup', 'word or short phrase']
    """
    text = answer[:MAX_CHARS].strip()
    bare = text.rstrip(".!").lower()
    if bare in ("yes", "no", "true", "false"):
        return STYLES[0]
    if re.fullmatch(r"\(?[a-h]\)?", bare):
        return STYLES[1]
    if re.fullmatch(r"[-+]?[\d,. ]*\d%?", bare):
        return STYLES[2]
    if "```" in text or re.search(r"</\w+>", text):
        return STYLES[8]
    if _COORDINATES.search(text) and len(text.split()) <= 40:
        return STYLES[3]
    if len(_STEPS.findall(text)) >= 2:
        return STYLES[7]
    if re.search(r"[.!?。！？](?=\s+\S)", text):
        return STYLES[6]
    return STYLES[4] if len(text.split()) <= 3 and len(text) <= 60 else STYLES[5]


def style_of_row(answers: Sequence[str]) -> str:
    """The style of a row's longest answer, which has most of the row's training tokens."""
    return answer_style(max(answers, key=len, default=""))
