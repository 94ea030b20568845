"""Reading a chat completion: the most likely first tokens, or texts. Pure functions.

Responses are not trusted: what is not a chat completion raises ValueError with a readable reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thresher.backends.openai.failures import NoLogprobs, Refused
from thresher.backends.openai.server_text import one_line, replace_surrogates, with_detail

TopLogprobs = dict[str, float]
"""Token as text -> its log-probability in nats; the highest of tokens with the same text."""

_SPACES = " \u2581\u0120"  # a space, and its forms in SentencePiece and byte-level vocabularies
MIN_BEGINNING = 3
"""Characters of a token that may stand for a longer answer which begins with it."""

_ID = "token_id:"  # what vLLM writes before a token's id where it names tokens by their ids
_NEGLIGIBLE = -9000.0  # nats; OpenAI reports -9999 for very unlikely tokens
_ROUNDED = 1e-3  # nats by which a rounded log-probability may be above 0
_MOST_TOKENS = 2**31 - 1
_REASONING = ("reasoning_content", "reasoning")  # vLLM, SGLang and hosted APIs; vLLM since 0.12


@dataclass(frozen=True)
class GeneratedText:
    """A generated text.

    tokens: as the server counts them; 0 if it does not.
    finished: whether the model ended it by itself.
    """

    text: str
    tokens: int
    finished: bool


def read_choices(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a response, at least one. Raises ValueError, and Refused for a response
    without an answer."""
    found = list_choices(response)
    for choice in found:
        _check(choice)
    return found


def list_choices(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a response, at least one, whatever they contain. Raises ValueError."""
    found = response.get("choices")
    if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
        raise ValueError("the response is not a chat completion: it has no list of choices")
    if not found:
        raise ValueError("the response has no choices")
    return found


def _check(choice: dict[str, Any]) -> None:
    if choice.get("finish_reason") == "content_filter":
        raise Refused("the server's content filter withheld the answer", kind="refused")
    message = choice.get("message")
    if not isinstance(message, dict) or message.get("content"):
        return
    if message.get("refusal"):
        reason = with_detail("the model refuses to answer", str(message["refusal"]))
        raise Refused(reason, kind="refused")
    if any(message.get(name) for name in _REASONING):
        raise Refused(
            "the answer consists of the model's reasoning only: switch reasoning off in the "
            "server, or allow more new tokens",
            kind="only-reasoning",
        )


def read_top_logprobs(response: dict[str, Any]) -> TopLogprobs:
    """The most likely tokens at the first position of the answer. Raises NoLogprobs if there are
    none."""
    found = read_choices(response)[0].get("logprobs")
    content = found.get("content") if isinstance(found, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    parameters = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(parameters, list) or not parameters:
        raise NoLogprobs("the answer has no log-probabilities")
    out: TopLogprobs = {}
    for entry in [*parameters, first]:
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
            raise ValueError("one of the most likely tokens has no text")
        value = read_logprob(entry.get("logprob"))
        out[entry["token"]] = max(out.get(entry["token"], -math.inf), value)
    return out


def read_logprob(value: Any) -> float:
    """A log-probability in nats; null, NaN and "very unlikely" are -inf."""
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"a log-probability is not a number: {one_line(str(value), 40)}")
    if value > _ROUNDED:
        raise ValueError(f"a log-probability is above 0: {value:g}")
    return min(float(value), 0.0) if value > _NEGLIGIBLE else -math.inf


def first_token_logprobs(
    answers: Sequence[str], found: TopLogprobs, ids: Sequence[int] | None = None
) -> np.ndarray:
    """Log-probability of each answer's first token, float32 [m], in nats; -inf if it is not among
    the tokens found.

    Without ids, which token an answer begins with depends on a tokenizer that the server does not
    show. The first that exists of these is used: the token that is the answer; the one that is the
    answer after a space; the longest one with which the answer begins, if that token has at least
    `MIN_BEGINNING` characters or is a number, and begins no other of the answers. A shorter one
    ("N" of "No") begins many words, and says nothing about the answer.

    Arguments:
        answers: m texts.
        found: the most likely first tokens.
        ids: the ids of the answers' first tokens, where the server shows its tokenizer; they are
            used if it names the tokens found by their ids.

    >>> found = {"Yes": -0.5, " No": -1.5, "4": -3.0, "Y": -4.0}
    >>> first_token_logprobs(["Yes", "No", "Maybe", "42"], found).tolist()
    [-0.5, -1.5, -inf, -3.0]
    >>> first_token_logprobs(["Yes", "No"], {"token_id:7": -0.5, "token_id:3": -2.0}, [3, 8]).tolist()
    [-2.0, -inf]
    """  # noqa: E501
    if ids is not None and all(token.startswith(_ID) for token in found):
        return np.array([found.get(f"{_ID}{i}", -math.inf) for i in ids], np.float32)
    bare: TopLogprobs = {}
    for token, value in found.items():
        text = token.lstrip(_SPACES)
        bare[text] = max(bare.get(text, -math.inf), value)
    out = np.full(len(answers), -np.inf, np.float32)
    for i, answer in enumerate(answers):
        if answer in found:
            out[i] = found[answer]
        elif answer in bare:
            out[i] = bare[answer]
        else:
            cut = next((answer[:k] for k in range(len(answer), 0, -1) if answer[:k] in bare), "")
            shared = sum(other.startswith(cut) for other in dict.fromkeys(answers)) > 1
            if (len(cut) >= MIN_BEGINNING or cut.isdecimal()) and not shared:
                out[i] = bare[cut]
    return out


def read_texts(response: dict[str, Any]) -> list[GeneratedText]:
    """The texts of a response, stripped. Raises ValueError, and Refused for a response without an
    answer."""
    found = read_choices(response)
    usage = response.get("usage")
    spent = usage.get("completion_tokens") if isinstance(usage, dict) and len(found) == 1 else None
    tokens = spent if isinstance(spent, int) and 0 <= spent <= _MOST_TOKENS else 0
    out = []
    for choice in found:
        message = choice.get("message")
        if not isinstance(message, dict):
            raise ValueError("a choice of the response has no message")
        finished = choice.get("finish_reason") in ("stop", "eos", "eos_token")
        out.append(
            GeneratedText(
                replace_surrogates(_text(message.get("content"))).strip(), int(tokens), finished
            )
        )
    return out


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):  # text parts, as in a request
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    raise ValueError("the content of the answer is not a text")
