"""Split a model's reasoning into its steps and its final answer. Pure functions of texts.

Recognised, in this order: a numbered list (`1.`, `2)`, `(3)`, `Step 4:`; also within one line), a
bulleted list, several lines, several sentences. The part that states the final answer ("Answer: B",
"So the answer is red.") is the answer, not a step. A text that consists of an answer only is one
step: itself. The rules are part of `Rationale`'s identity through its version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thresher.answers.parsing import strip_reasoning

_NUMBER = r"(?:step\s+)?\(?(\d{1,2})\s*[.):](?!\d)"
_NUMBERED_LINE = re.compile(rf"^\s*(?:[-*•]\s*)?\**{_NUMBER}\**:?\s*", re.IGNORECASE)
_NUMBERED_INLINE = re.compile(rf"(?:(?<=\s)|^)\**{_NUMBER}\**:?\s+(?=\S)", re.IGNORECASE)
_BULLET_LINE = re.compile(r"^\s*[-*•–]\s+(?=\S)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]?\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|approx|cf|vs|Mr|Mrs|Ms|Dr|St|Fig|No)\.$")
_INITIAL = re.compile(r"(?:^|\s|\()[A-Za-z]\.$")
_ANSWER = re.compile(
    r"(?:\b(?:final|correct|right)\s+(?:answer|option|choice)|\banswer)\b\**\s*(?:\([^)]*\)\s*)?(?:is\b|[:=])\s*:?\s*\**\s*(?=\S)",
    re.IGNORECASE,
)
_END = 200  # characters at the end of a sentence that are searched for an answer
_LAST = 8  # characters that the longest abbreviation or initial needs, with the one before it
_EMPHASIS = re.compile(r"\*\*|__|`")


@dataclass(frozen=True)
class Reasoning:
    """steps: at least one unless the text is empty; stripped, without markers. answer: may be
    ""."""

    steps: tuple[str, ...]
    answer: str


def split_reasoning(text: str) -> Reasoning:
    r"""Split a text into steps and answer.

    >>> split_reasoning("1. The cross is red.\n2. The circle is left of it.\nAnswer: left")
    Reasoning(steps=('The cross is red.', 'The circle is left of it.'), answer='left')
    >>> split_reasoning("I see circles at the top left. So the answer is 1.")
    Reasoning(steps=('I see circles at the top left.',), answer='1')
    >>> split_reasoning("red")
    Reasoning(steps=('red',), answer='red')
    """
    plain = _EMPHASIS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if not plain:
        return Reasoning((), "")
    pieces = _pieces(plain)
    for i in range(len(pieces) - 1, -1, -1):
        found = list(_ANSWER.finditer(pieces[i]))
        if found:
            answer = _bare(pieces[i][found[-1].end() :].split("\n")[0])
            steps = tuple(pieces[:i] or pieces[i + 1 :])  # some texts begin with the answer
            return Reasoning(steps or (plain,), answer)
    if len(pieces) == 1:
        return Reasoning((pieces[0],), _bare(pieces[0]))
    return Reasoning(tuple(pieces[:-1]), _bare(pieces[-1]))


def final_answer(text: str, finished: bool) -> str:
    r"""The answer in a model's text; "" if the text was cut off before the answer.

    Arguments:
        text: as generated.
        finished: whether the model stopped by itself.

    >>> [final_answer("I see 3 dogs.\nAnswer: 3", finished) for finished in (True, False)]
    ['3', '']
    >>> final_answer("Answer: 3\nI see", False)
    '3'
    >>> final_answer("<think>2? 3?</think>3", True), final_answer("<think>2?", True)
    ('3', '')
    """
    answer_text = strip_reasoning(text)
    if not finished:
        answer_text = answer_text.rpartition("\n")[0]
        return split_reasoning(answer_text).answer if _ANSWER.search(answer_text) else ""
    return split_reasoning(answer_text).answer


def stated_answer(text: str) -> str:
    """The answer that a text states ("So the answer is red."), else the text itself, stripped.

    >>> stated_answer("I look. So the answer is red."), stated_answer(" Red ")
    ('red', 'Red')
    """
    return split_reasoning(text).answer if _ANSWER.search(text) else text.strip()


def _pieces(plain: str) -> list[str]:
    lines = [line for line in plain.split("\n") if line.strip()]
    for marker in (_NUMBERED_LINE, _BULLET_LINE):
        if sum(bool(marker.match(line)) for line in lines) >= 2:
            return _listed(lines, marker)
    if inline := _inline(plain):
        return inline
    if len(lines) == 1:
        return _sentences(lines[0])
    first = _NUMBERED_LINE.sub("", lines[0]) if _NUMBERED_LINE.match(lines[0]) else lines[0]
    return [line.strip() for line in (first, *lines[1:]) if line.strip()]


def _listed(lines: list[str], marker: re.Pattern[str]) -> list[str]:
    """Items of a list; a line without a marker continues the item before it, unless it states the
    answer."""
    out: list[str] = []
    inside = False
    for line in lines:
        if m := marker.match(line):
            out.append(line[m.end() :].strip())
            inside = True
        elif not inside and line.rstrip().endswith(":"):
            continue  # "Let us think step by step:"
        elif inside and not _ANSWER.search(line):
            out[-1] = f"{out[-1]} {line.strip()}"
        else:
            out.append(line.strip())
            inside = False
    return [piece for piece in out if piece]


def _inline(plain: str) -> list[str]:
    """`1. … 2. … 3. …` within running text, numbered from 1."""
    run: list[re.Match[str]] = []
    for m in _NUMBERED_INLINE.finditer(plain):
        if int(m[1]) == len(run) + 1:
            run.append(m)
    if len(run) < 2:
        return []
    before = plain[: run[0].start()].strip()
    out = [] if not before or before.endswith(":") else [before]
    for k, m in enumerate(run):
        end = run[k + 1].start() if k + 1 < len(run) else len(plain)
        out.append(plain[m.end() : end].strip())
    last = [s for line in out.pop().split("\n") for s in _sentences(line)]
    return [piece for piece in (*out, *last) if piece]


def _sentences(line: str) -> list[str]:
    out: list[list[str]] = []  # the pieces of each sentence
    end = ""  # of the last sentence
    for piece in _SENTENCE_END.split(line):
        last = max(len(end) - _LAST, 0)
        # "The answer is A." ends there
        initial = _INITIAL.search(end, last) and not _ANSWER.search(end)
        if out and (initial or _ABBREVIATION.search(end, last)):
            out[-1].append(piece)
            end = f"{end} {piece}"[-_END:]
        else:
            out.append([piece])
            end = piece[-_END:]
    return [sentence for sentence in (" ".join(pieces).strip() for pieces in out) if sentence]


def _bare(answer: str) -> str:
    """Without the full stop and quotation marks around it; an option's brackets stay."""
    out = answer.strip().strip("\"'“”").strip()
    return (
        out.removesuffix(".").strip().strip("\"'“”")
        if not re.fullmatch(r"[A-Za-z]\.", out)
        else out[0]
    )
