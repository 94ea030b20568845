"""The candidate answers of a row, recognised from its question and the form of its expected answer.

Recognised, in this order:
- yes or no, true or false: the expected answer is one of the two;
- lettered options in the question ("A. red", "(B) blue", "C) green"): the expected answer is a
  letter, an option's text, or both ("B. blue");
- a list after "options:", "choices:", "choose from:" and similar: the expected answer is an item.

Candidates are written in the form of the expected answer ("Yes." goes with "No.", "(B)" with
"(A)"), since a model tuned on this form gives other forms little probability. Anything else is
None; nothing is guessed. Pure functions; the rules are part of `Choice`'s identity through its
version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thresher.types import Sample

PAIRS = (("yes", "no"), ("true", "false"))
_MARKER = re.compile(r"(?:(?<=\s)|^)(\(([A-Z])\)|([A-Z])[.):])[ \t]*(?=\S)", re.MULTILINE)
_LETTER = re.compile(r"(\(?)([A-Za-z])([.):]{0,2})")
_LETTER_AND_TEXT = re.compile(r"(\(?)([A-Z])([.):]{1,2}\s*)(\S.*)", re.DOTALL)
_LIST = re.compile(
    r"\b(?:options|choices|choose (?:one )?(?:from|of)|select (?:one )?(?:from|of)|pick (?:one "
    r")?(?:from|of)|one of)"
    r"(?: the following)?\s*:\s*([^\n]+)",
    re.IGNORECASE,
)
_OUTER = ".,;:!?\"'`()[]{}*“”‘’ \t\n"


@dataclass(frozen=True)
class Candidates:
    """`texts`: in the form of the expected answer. `options`: the texts of lettered options."""

    texts: tuple[str, ...]
    letters: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def expected(sample: Sample) -> str:
    """The expected answer: the last assistant turn, stripped; "" if there is none."""
    answers = [t.text for t in sample.turns if t.role == "assistant"]
    return answers[-1].strip() if answers else ""


def question(sample: Sample) -> str:
    """The user turn before the expected answer; "" if there is none."""
    latest = ""
    found = ""
    for turn in sample.turns:
        if turn.role == "user":
            latest = turn.text
        elif turn.role == "assistant":
            found, latest = latest, ""
    return found


def candidates(sample: Sample) -> Candidates | None:
    """The row's candidate answers (two or more, the expected one included), or None if
    unrecognised.
    """
    answer, text = expected(sample), question(sample)
    return _pair(answer) or _lettered(answer, text) or _listed(answer, text)


def _pair(answer: str) -> Candidates | None:
    core = answer.strip(_OUTER)
    for pair in PAIRS:
        if core.lower() in pair:
            return Candidates(tuple(_in_form_of(answer, core, word) for word in pair))
    return None


def _lettered(answer: str, text: str) -> Candidates | None:
    letters, options = parse_options(text)
    if len(letters) < 2:
        return None
    if (m := _LETTER.fullmatch(answer)) and m[2].upper() in letters:
        written = [x.lower() if m[2].islower() else x for x in letters]
        return Candidates(tuple(m[1] + x + m[3] for x in written), letters, options)
    if (m := _LETTER_AND_TEXT.fullmatch(answer)) and m[2] in letters:
        index = letters.index(m[2])
        if m[4].strip(_OUTER).lower() == options[index].strip(_OUTER).lower():
            tail = m[4][len(m[4].rstrip(_OUTER)) :]
            texts = (
                m[1] + x + m[3] + o.rstrip(_OUTER) + tail
                for x, o in zip(letters, options, strict=True)
            )
            return Candidates(tuple(texts), letters, options)
    return _one_of(answer, options, letters)


def _listed(answer: str, text: str) -> Candidates | None:
    for m in _LIST.finditer(text):
        items = [i.strip(_OUTER) for i in re.split(r"[,;/]|\bor\b|\band\b", m[1])]
        items = [i for i in items if i]
        if len(items) >= 2 and (found := _one_of(answer, tuple(items), ())):
            return found
    return None


def _one_of(answer: str, options: tuple[str, ...], letters: tuple[str, ...]) -> Candidates | None:
    """The options as candidates if the answer is one of them, in its case and with its full
    stop."""
    core = answer.strip(_OUTER)
    bare = [o.strip(_OUTER) for o in options]
    for option in bare:
        if not core or option.lower() != core.lower():
            continue
        if core == option:
            return Candidates(
                tuple(answer.replace(core, o, 1) for o in bare), letters, options if letters else ()
            )
        return Candidates(
            tuple(_in_form_of(answer, core, o) for o in bare), letters, options if letters else ()
        )
    return None


def _in_form_of(answer: str, core: str, word: str) -> str:
    """`word` in the form of `answer`, whose bare text is `core`: its case and surrounding
    punctuation.
    """
    if core.isupper() and len(core) > 1:
        word = word.upper()
    elif core[0].isupper():
        word = word[:1].upper() + word[1:]
    elif core.islower():
        word = word.lower()
    return answer.replace(core, word, 1)


def parse_options(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lettered options of a question, ("A", "B", …) and their texts: the last run that begins with
    A.

    >>> parse_options("What is it?\\nA. a cat\\nB. a dog\\nAnswer with the letter.")
    (('A', 'B'), ('a cat', 'a dog'))
    >>> parse_options("Which? (A) red (B) blue (C) green")
    (('A', 'B', 'C'), ('red', 'blue', 'green'))
    >>> parse_options("Vitamin A. Is it red?")
    ((), ())
    """
    markers = [(m[2] or m[3], m.start(), m.end()) for m in _MARKER.finditer(text)]
    best: list[tuple[str, int, int]] = []
    second = max((k for k, (letter, _, _) in enumerate(markers) if letter == "B"), default=-1)
    first = max((k for k in range(second) if markers[k][0] == "A"), default=-1)
    for marker in markers[first:] if first >= 0 else ():
        if marker[0] == chr(ord("A") + len(best)):
            best.append(marker)
    options = []
    for k, (_, _, begin) in enumerate(best):
        end = best[k + 1][1] if k + 1 < len(best) else len(text)
        line = text[begin:end].strip().split("\n")[0]
        options.append(line.rstrip(" ,;"))
    return tuple(m[0] for m in best), tuple(options)
