"""What a chat completion says: the likeliest first tokens, or texts. Pure.

A response is read without trust: what is no chat completion raises ValueError with a reason in
words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thresher.backends.openai.failures import NoLogprobs, Refused
from thresher.backends.openai.server_text import clean, one_line

Likeliest = dict[str, float]
"""Token as text -> its log-probability in nats; of tokens that look the same, the likelier
one's."""

_SPACES = " \u2581\u0120"  # a space, and how SentencePiece and byte-level vocabularies write one
_NEVER = -9000.0  # OpenAI's way to say "very unlikely" is -9999
_ROUNDED = 1e-3  # nats by which a rounded log-probability may be above 0
_MOST_TOKENS = 2**31 - 1
_REASONING = ("reasoning_content", "reasoning")  # vLLM, SGLang and hosted APIs; vLLM since 0.12


@dataclass(frozen=True)
class Written:
    """A generated text. `tokens`: as the server counts them, 0 where it does not. `finished`: the
    model ended it itself."""

    text: str
    tokens: int
    finished: bool


def choices(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a response, at least one. Raises ValueError, and Refused for one that holds no
    answer."""
    found = response.get("choices")
    if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
        raise ValueError("the answer is no chat completion: it has no list of choices")
    if not found:
        raise ValueError("the answer has no choices")
    for choice in found:
        _check(choice)
    return found


def _check(choice: dict[str, Any]) -> None:
    if choice.get("finish_reason") == "content_filter":
        raise Refused("the server's content filter withheld the answer")
    message = choice.get("message")
    if not isinstance(message, dict) or message.get("content"):
        return
    if message.get("refusal"):
        raise Refused(f"the model refuses to answer: {one_line(str(message['refusal']))}")
    if any(message.get(name) for name in _REASONING):
        raise Refused(
            "the answer holds the model's reasoning and no text: switch reasoning off in the "
            "server, or allow more new tokens"
        )


def likeliest(response: dict[str, Any]) -> Likeliest:
    """The likeliest tokens at the first position of the answer. Raises NoLogprobs where there are
    none."""
    found = choices(response)[0].get("logprobs")
    content = found.get("content") if isinstance(found, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    named = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(named, list) or not named:
        raise NoLogprobs("the answer came without log-probabilities")
    out: Likeliest = {}
    for entry in [*named, first]:
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
            raise ValueError("one of the likeliest tokens has no text")
        value = _logprob(entry.get("logprob"))
        out[entry["token"]] = max(out.get(entry["token"], -math.inf), value)
    return out


def _logprob(value: Any) -> float:
    """A log-probability in nats; null, NaN and "very unlikely" are -inf."""
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"a log-probability is no number: {one_line(str(value), 40)}")
    if value > _ROUNDED:
        raise ValueError(f"a log-probability is above 0: {value:g}")
    return min(float(value), 0.0) if value > _NEVER else -math.inf


def first_tokens(answers: Sequence[str], found: Likeliest) -> np.ndarray:
    """Log-probability of each answer's first token, float32 [m]; -inf where it is not among those
    found.

    Which token an answer begins with is the tokenizer's affair, which a server does not show. Taken
    is the token that is the answer; else the one that is the answer behind a space; else the
    longest one that the answer begins with.

    >>> found = {"Yes": -0.5, " No": -1.5, "4": -3.0, "Y": -4.0}
    >>> first_tokens(["Yes", "No", "Maybe", "42"], found).tolist()
    [-0.5, -1.5, -inf, -3.0]
    """
    bare: Likeliest = {}
    for token, value in found.items():
        text = token.lstrip(_SPACES)
        bare[text] = max(bare.get(text, -math.inf), value)
    out = np.full(len(answers), -np.inf, np.float32)
    for i, answer in enumerate(answers):
        if answer in found:
            out[i] = found[answer]
            continue
        cut = next((answer[:k] for k in range(len(answer), 0, -1) if answer[:k] in bare), None)
        if cut is not None:
            out[i] = bare[cut]
    return out


def written(response: dict[str, Any]) -> list[Written]:
    """The texts of a response, white space at their ends removed. Raises Refused for one that holds
    no answer."""
    found = choices(response)
    usage = response.get("usage")
    spent = usage.get("completion_tokens") if isinstance(usage, dict) and len(found) == 1 else None
    tokens = spent if isinstance(spent, int) and 0 <= spent <= _MOST_TOKENS else 0
    out = []
    for choice in found:
        message = choice.get("message")
        if not isinstance(message, dict):
            raise ValueError("a choice of the answer has no message")
        finished = choice.get("finish_reason") in ("stop", "eos", "eos_token")
        out.append(Written(clean(_text(message.get("content"))).strip(), int(tokens), finished))
    return out


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):  # text parts, as in a request
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    raise ValueError("the answer's content is no text")
