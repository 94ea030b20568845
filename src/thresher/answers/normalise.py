"""Normal form of answers, so that answers with the same meaning compare equal (for exact match).

In this order: Unicode NFKC, case folding, white space; punctuation around each word is removed;
number words become numerals ("twenty-one" -> "21") and numerals get one form ("1,200.50" ->
"1200.5", "12%" -> "0.12"); the articles a, an, the are dropped before another word. An answer of
punctuation only is left unchanged.

Decided, and tested: "12%" equals "0.12" and not "12" (as in ChartQA's own metric); "none" is not
"0" (it may mean none of the options); a numeral with leading zeros is a code and is left unchanged;
a currency or unit sign is part of the answer. Pure functions.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBERS = {word: n for n, word in enumerate(_UNITS + _TEENS)} | {
    word: 10 * (n + 2) for n, word in enumerate(_TENS)
}
_ARTICLES = ("a", "an", "the")
_NUMERAL = re.compile(
    r"([+-]?)((?:0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+)?(?:\.\d+)?|(?:0|[1-9]\d*)\.)(%?)", re.ASCII
)
_MINUS = str.maketrans("−‒–", "---")


def normalise(text: str) -> str:
    """The normal form of an answer.

    >>> [normalise(t) for t in ("Yes.", " yes ", "YES", "2", "two", "12%", "0.12",
    ...     "The  red Square!")]
    ['yes', 'yes', 'yes', '2', '2', '0.12', '0.12', 'red square']
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = folded.split()
    bare = [(_bare(word), word) for word in words]
    kept: list[str] = []
    for i, (word, original) in enumerate(bare):
        followed = any(w for w, _ in bare[i + 1 :])
        if not word or (word in _ARTICLES and original == word and followed):
            continue
        kept.append(word)
    return " ".join(_join_numbers(kept)) or " ".join(words)


def number(text: str) -> float | None:
    """The number that an answer states (percent signs and number words included), else None.

    >>> [number(t) for t in ("12%", "1,200", "two", "about 3", "-4.50")]
    [0.12, 1200.0, 2.0, None, -4.5]
    """
    found = normalise(text)
    return float(found) if re.fullmatch(r"-?\d+(\.\d+)?", found, re.ASCII) else None


def _bare(word: str) -> str:
    """A word without surrounding punctuation; numerals keep sign, point and percent sign."""
    start, end = 0, len(word)
    while start < end and _is_outer(word[start]):
        start += 1
    while end > start and _is_outer(word[end - 1]):
        end -= 1
    for a, b in ((start - 1, end + 1), (start - 1, end), (start, end + 1), (start, end)):
        if a >= 0 and b <= len(word) and (found := _numeral(word[a:b])):
            return found
    return word[start:end]


def _is_outer(character: str) -> bool:
    return unicodedata.category(character).startswith("P") or character in "`´"


def _numeral(text: str) -> str:
    """The normal form of a numeral, "" if `text` is not one."""
    m = _NUMERAL.fullmatch(text.translate(_MINUS))
    if m is None or not m[2] or m[2] == ".":
        return ""
    value = Decimal(m[1] + m[2].replace(",", ""))
    if m[3]:
        value = value.scaleb(-2)
    out = format(value, "f")
    if "." in out:
        out = out.rstrip("0").rstrip(".")
    return "0" if out in ("-0", "") else out.removeprefix("+")


def _join_numbers(words: list[str]) -> list[str]:
    """Number words as numerals; a ten followed by a unit is one number."""
    out: list[str] = []
    ten = False  # whether the last word is a ten that a unit may follow
    for word in words:
        first, dash, second = word.partition("-")
        if dash and first in _TENS and second in _UNITS[1:]:
            out.append(str(_NUMBERS[first] + _NUMBERS[second]))
            ten = False
        elif ten and word in _UNITS[1:]:
            out[-1] = str(int(out[-1]) + _NUMBERS[word])
            ten = False
        elif word in _NUMBERS:
            out.append(str(_NUMBERS[word]))
            ten = word in _TENS
        else:
            out.append(word)
            ten = False
    return out
