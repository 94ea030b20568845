"""Where the answers of a conversation are in the tokens of a server's prompt. Pure functions.

A server does not show its tokenizer, so answers are found by comparing token ids. Two ways give the
same spans:

exact   The prompt of the whole conversation is compared with two others: the conversation up to
        an answer with the generation prompt, and the same followed by the answer and nothing else.
        Two more requests for every answer.
marks   What the chat template writes around an answer (`<|im_start|>assistant\\n` … `<|im_end|>`)
        is looked up in the prompt. No further request, but not every template allows it.

A span begins where the generation prompt ends, as in this process (`hf.encode`). A token that
belongs to the template as well as to the answer is part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from thresher.backends.openai.prompt_logprobs import PromptTokens

Span = tuple[int, int]
"""The tokens of an answer, [start, end)."""

_CONTROL = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
_INVISIBLE = re.compile(r"[\s\u2581\u0120\u010a]+")  # white space, also as vocabularies write it


@dataclass(frozen=True)
class TurnMarks:
    """What a chat template writes around an answer, as token ids.

    begin: the generation prompt, or what a finished turn has in its place.
    end: what follows the answer.
    controls: the texts of those of these tokens that no row may contain.
    stop: how many tokens of `end` a model writes to end its answer; the last of them is the one
        that stops it.
    """

    begin: tuple[int, ...]
    end: tuple[int, ...]
    controls: tuple[str, ...]
    stop: int


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are equal at the beginning.

    Arguments:
        one: token ids.
        other: token ids.

    >>> common_prefix([1, 2, 3], [1, 2, 4, 5])
    2
    """
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def exact_span(
    whole: PromptTokens, prompt: PromptTokens, ended: PromptTokens, answer: str
) -> Span | None:
    """The tokens of an answer, or None if they cannot be located.

    Arguments:
        whole: of the conversation.
        prompt: of the conversation up to the answer, with the generation prompt.
        ended: of the conversation up to the end of the answer's own text.
        answer: its text, without outer white space.
    """
    end = common_prefix(whole.ids, ended.ids)
    end += end < len(ended.ids)  # one token is the answer's end and what follows it
    start = common_prefix(whole.ids, prompt.ids)
    missing = "".join(prompt.texts[start:])
    written = "".join(whole.texts[start:end])
    if missing and written.startswith(missing):  # other tokens for the same text: where it ends
        while start < end and len(missing) >= len(whole.texts[start]):
            missing = missing[len(whole.texts[start]) :]
            start += 1
    elif missing:  # a finished turn is written differently: where the answer's own text starts
        if not answer.isascii():
            return None
        while start + 1 < end and _holds(whole.texts[start + 1 : end], answer):
            start += 1
    return (start, end) if holds_answer(whole.texts[start:end], answer) else None


def learn_marks(question: PromptTokens, whole: PromptTokens, span: Span) -> TurnMarks | None:
    """What the template writes around an answer; None if the ids do not show it.

    Arguments:
        question: a conversation of one user turn, without a generation prompt.
        whole: the same with an answer.
        span: of the answer.
    """
    start, end = span
    asked = len(question.ids)
    if whole.ids[:asked] != question.ids or asked == start or end == len(whole.ids):
        return None
    following = whole.texts[end:]
    stop = next((i + 1 for i, t in enumerate(following) if _CONTROL.fullmatch(t)), 0)
    if not stop:  # an answer might contain what follows it
        return None
    around = (*whole.texts[asked:start], *following)
    controls = tuple(dict.fromkeys(t for t in around if _CONTROL.fullmatch(t)))
    return TurnMarks(tuple(whole.ids[asked:start]), tuple(whole.ids[end:]), controls, stop)


def marked_spans(ids: Sequence[int], marks: TurnMarks, answers: int) -> list[Span] | None:
    """The tokens of every assistant turn by what is written around it; None if the marks are not
    found exactly once a turn.

    Arguments:
        ids: of the conversation.
        marks: of the template.
        answers: assistant turns of the conversation.

    >>> marks = TurnMarks((8, 9), (2, 3), (), 1)
    >>> marked_spans([1, 8, 9, 5, 6, 2, 3, 4, 8, 9, 7, 2, 3], marks, 2)
    [(3, 5), (10, 11)]
    """
    starts = [i + len(marks.begin) for i in _places(ids, marks.begin)]
    ends = _places(ids, marks.end)
    if len(starts) != answers:
        return None
    spans = []
    for start, following in zip(starts, [*starts[1:], len(ids) + 1], strict=True):
        end = next((e for e in ends if e >= start), None)
        if end is None or end >= following:
            return None
        spans.append((start, end))
    return spans


def _places(ids: Sequence[int], part: Sequence[int]) -> list[int]:
    """Where `part` begins in `ids`."""
    n = len(part)
    return [
        i
        for i in range(len(ids) - n + 1)
        if ids[i] == part[0] and list(ids[i : i + n]) == list(part)
    ]


def holds_answer(texts: Sequence[str], answer: str) -> bool:
    """Whether the tokens' texts contain the answer, and end with it, white space aside.

    Arguments:
        texts: of the tokens of a span, decoded one by one.
        answer: the answer's text. Only ASCII is compared: of another character, which may be
            several tokens, these have no text of their own.

    >>> holds_answer(["a", " red", " b", "all"], "a red  ball")
    True
    >>> holds_answer(["red"], "a red ball"), holds_answer(["red", " ", "</s>"], "red")
    (False, False)
    """
    if not texts or not answer.isascii():
        return bool(texts)
    *front, last = (_INVISIBLE.sub("", text) for text in texts)
    while front and not last:
        last = front.pop()
    return _holds([*front, last], answer) and not _holds(front, answer)


def _holds(texts: Sequence[str], answer: str) -> bool:
    return _INVISIBLE.sub("", answer) in _INVISIBLE.sub("", "".join(texts))


def ends_greedily(tokens: PromptTokens, span: Span, marks: TurnMarks | None) -> bool:
    """Whether greedy decoding ends the answer where it ends.

    Arguments:
        tokens: of the conversation.
        span: of the answer.
        marks: of the template, if they are known.
    """
    end = span[1]
    if end >= len(tokens.ids):  # the template writes nothing after its last answer
        return tokens.stopped
    written = 1 if marks is None else marks.stop
    return all(tokens.greedy[end : end + written])
