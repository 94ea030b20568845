"""Strict parsing of a rating or an option from generated text.

A text that could mean two answers, or was cut off before its answer, means none: nothing is
guessed. Pure functions, linear in the text's length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_READ = 4_000  # characters of an answer that are read: its end
_TAGS = "think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
_ENDS = re.compile(
    rf"</(?:{_TAGS})>|◁/think▷|\[/THINK\]|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
_BEGINS = re.compile(
    rf"<(?:{_TAGS})>|◁think▷|\[THINK\]|<\|begin_of_thought\|>|<\|channel\|>(?:analysis|commentary)\b",
    re.IGNORECASE,
)

_EMPHASIS = re.compile(r"(?<!\d)[*_`~]+|[*_`~]+(?!\d)")
_SCALE = re.compile(
    r"(?<![\w.,/-])[01]\s{0,3}(?:-|to|through|till|until|and|\.{2,3}|…|,)\s{0,3}(5|7|10|100)(?![\w.%]*\d)",
    re.IGNORECASE,
)
_TOP = re.compile(r"(\d(?:\.0{1,9})?\s{0,3})?(?:/|out of)\s{0,3}5(?![\w%]|[.,]\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,/$€£#-])([0-5])(?:\.0{1,9})?(?![\w%°]|[.,]\d|\s?-\s?\d)")
_OF_FIVE = re.compile(
    r"\s{0,3}(?:/|out of|of)\s{0,3}(?:a (?:possible|total|maximum)(?: of)? "
    r")?5(?![\w%]|[.,]\d)(?! of\b)",
    re.I,
)
_FREE = re.compile(
    r"[ "
    r"\t]{0,3}(?:$|\n|[.;:!)\]}\"'”’|(]|,(?!\s?\d)|-(?:\s|$)|(?:points?|stars?)\b|because\b|since\b)",
    re.I,
)
_FREE_IN_A_SENTENCE = re.compile(
    r"[ \t]{1,3}(?:as|for|due|given|on|in|but|which|and(?!\s\d))\b", re.I
)
_LABEL = re.compile(
    r"(?:\b(?:scor(?:e|ed|es|ing)|rat(?:e|ed|es|ing)|grad(?:e|ed|es|ing)|helpful|helpfulness|usefulness|give|gives|gave|assign"
    r"|assigned|award|awarded|say|choose|pick|go "
    r"with|deserves?|earns?|verdict|judg(?:e)?ment|overall|boxed|final answer)\b"
    r"|(?:^|\n)\s{0,3}answer\s{0,3}:)(?:[^\d\n.!?;]{0,200}|\W{0,20})$",
    re.IGNORECASE,
)
_FINAL = re.compile(r"\b(?:overall|final|therefore|thus|hence)\b[^\d\n.!?;]{0,60}$", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|never|cannot|less|more|lower|higher|under|over|below|above|least|most|than|between|either|if|unless|whether)\b|n't\b",
    re.IGNORECASE,
)
_BEFORE = 240  # characters before a number in which its label is looked for
_LIST = re.compile(r"\W{0,5}1[.)]\s")

_OPTION_ONLY = re.compile(r"\W*([A-Za-z])\W*")
_OPTION_FIRST = re.compile(r"\W*([A-Z])\s{0,3}(?:[).:\],;]|-\s|\n)")
_OPTION_NAMED = re.compile(
    r"(?i:\banswer\b(?:\s+is)?\s{0,3}:?)\W{0,3}([A-Z])\b(?![’'])(?!\s+[a-z])"
    r"|(?i:\b(?:option|choice)\b(?:\s+is)?\s{0,3}:?)\W{0,3}([A-Z])\b(?![’'])"
)
_OPTION_OR = re.compile(r"\b[A-Z]\)?\s{0,3}(?:\bor\b|\band\b|/|&)\s{0,3}(?i:option\s)?\(?[A-Z]\b")
_OPTION_DENIED = re.compile(r"\b(?:not|isn't|never|neither|nor|wrong|incorrect)\b", re.IGNORECASE)


def strip_reasoning(text: str) -> str:
    """Generated text without the reasoning before its answer; "" if the reasoning never ended.

    >>> [strip_reasoning(t) for t in ("<think>from 0 to 5</think>4", "<think>The user wants", "4")]
    ['4', '', '4']
    """
    ends = [m.end() for m in _ENDS.finditer(text)]
    rest = text[ends[-1] :] if ends else text
    begins = _BEGINS.search(rest)
    return (rest[: begins.start()] if begins else rest).strip()


def parse_rating(text: str, finished: bool = True) -> int | None:
    """The rating 0..5 that a text gives; None if it gives none or is ambiguous.

    Accepted: a number alone or at the start ("4", "4. It shows…"), after a rating word ("Score: 4",
    "I'd give it a 4"), out of five ("4/5", "4 out of 5"), and on a last line of its own. A scale
    ("0 to 5", "(0-5)") is not a rating; ratings on other scales are not accepted.

    Arguments:
        text: the generated text.
        finished: whether the model ended the text itself; if not, a number at the very end may be
            incomplete and is ignored.

    >>> [parse_rating(t) for t in ("4", "Helpfulness (0-5): 4", "I'd rate it 3 out of 5.",
    ...     "**Rating:** 4/5")]
    [4, 4, 3, 4]
    >>> [parse_rating(t) for t in ("On a scale of 0 to 5, I", "3 dogs", "between 3 and 4", "8/10",
    ...     "4.5", "-1", "four")]
    [None, None, None, None, None, None, None]
    """
    plain = unicodedata.normalize("NFKC", _end_of(strip_reasoning(text)))
    plain = _EMPHASIS.sub("", re.sub("[−‒–—―]", "-", plain)).strip()
    if any(m[1] != "5" for m in _SCALE.finditer(plain)):
        return None
    # "(0-5)", "Score/5", "(out of 5)"
    plain = _TOP.sub(lambda m: m[0] if m[1] else " ", _SCALE.sub(" ", plain))
    first: int | None = None
    rated: list[int] = []
    final: list[int] = []
    is_list = bool(_LIST.match(plain)) and bool(re.search(r"\s2[.)]\s", plain))
    for found in _NUMBER.finditer(plain):
        before, after = plain[max(found.start() - _BEFORE, 0) : found.start()], found.end()
        if not finished and before.strip() and plain[after:].strip() in ("", ".", ",", "/"):
            if _LABEL.search(before):
                return None  # "4" may have become "4.5" or "4/10"
            continue
        of_five = bool(_OF_FIVE.match(plain, after))
        if (
            not of_five
            and not _FREE.match(plain, after)
            and not _FREE_IN_A_SENTENCE.match(plain, after)
        ):
            continue
        value = int(found[1])
        label = _LABEL.search(before)
        if label and _denied(before, label):
            continue
        if (
            label
            or of_five
            or (finished and re.fullmatch(r"[^\w\n]*", plain[after:]) and _on_its_own_line(before))
        ):
            rated.append(value)
            final += [value] if _FINAL.search(before) else []
        if (
            not re.search(r"\w", plain[: found.start()])
            and not is_list
            and (of_five or _FREE.match(plain, after))
        ):
            first = value
    meant = set(rated) | ({first} if first is not None else set())
    if len(meant) == 1:
        return meant.pop()
    return final[0] if len(set(final)) == 1 and first is None else None


def _end_of(text: str) -> str:
    """The end of a long text, after a word, so that a number there does not count as the text's
    first.
    """
    return text if len(text) <= _READ else f"text {text[-_READ:]}"


def _denied(before: str, label: re.Match[str]) -> bool:
    """Whether the words around the label negate the number: "not a 4", "at least 3"."""
    return bool(
        _DENIED.search(label[0])
        or re.search(r"(?:\bnot|\bnever|n't)\s+(?:\w+\s+){0,2}$", before[: label.start()])
    )


def _on_its_own_line(before: str) -> bool:
    return bool(re.search(r"\n[^\w\n]*$", before))


def parse_option(text: str, letters: Sequence[str]) -> int | None:
    """Index in `letters` of the option that a text names; None if it names none or is ambiguous.

    Arguments:
        text: an answer.
        letters: the letters of the options, such as "ABC".

    >>> [parse_option(t, "ABC") for t in ("B", "(B) red", "The answer is C.", "Option A", "A dog",
    ...     "I think so")]
    [1, 1, 2, 0, None, None]
    >>> [parse_option(t, "ABC") for t in ("not B", "The answer is not A.", "A or B")]
    [None, None, None]
    """
    plain = _EMPHASIS.sub("", _end_of(strip_reasoning(text))).strip()
    if only := _OPTION_ONLY.fullmatch(plain):
        named = [only[1].upper()]
    elif first := _OPTION_FIRST.match(plain):
        named = [first[1]]
    elif _OPTION_DENIED.search(plain) or _OPTION_OR.search(plain):
        named = []
    else:
        named = [m[1] or m[2] for m in _OPTION_NAMED.finditer(plain)]
    meant = set(named)
    letter = meant.pop() if len(meant) == 1 else ""
    return letters.index(letter) if letter and letter in letters else None
