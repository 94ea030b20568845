"""What a chat completion says: the likeliest first tokens, or texts. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thresher.backends.openai.client import NoLogprobs, Refused

Likeliest = dict[str, float]
"""Token as text -> its log-probability in nats; of tokens that look the same, the likelier one's."""

_SPACES = " \u2581\u0120"  # a space, and how SentencePiece and byte-level vocabularies write one
_NEVER = -9000.0  # OpenAI's way to say "very unlikely" is -9999


@dataclass(frozen=True)
class Written:
    """A generated text. `tokens`: as the server counts them, 0 where it does not. `finished`: the model ended it itself."""

    text: str
    tokens: int
    finished: bool


def likeliest(response: dict[str, Any]) -> Likeliest:
    """The likeliest tokens at the first position of the answer. Raises NoLogprobs where there are none."""
    found = response["choices"][0].get("logprobs") or {}
    content = found.get("content") or []
    named = content[0].get("top_logprobs") if content else None
    if not named:
        raise NoLogprobs("the answer came without log-probabilities")
    out: Likeliest = {}
    for entry in [*named, content[0]]:
        token, value = str(entry["token"]), float(entry["logprob"])
        if not math.isnan(value):
            out[token] = max(out.get(token, -math.inf), value if value > _NEVER else -math.inf)
    return out


def first_tokens(answers: Sequence[str], found: Likeliest) -> np.ndarray:
    """Log-probability of each answer's first token, float32 [m]; -inf where it is not among those found.

    Which token an answer begins with is the tokenizer's affair, which a server does not show. Taken is the token that is
    the answer; else the one that is the answer behind a space; else the longest one that the answer begins with.

    >>> first_tokens(["Yes", "No", "Maybe", "42"], {"Yes": -0.5, " No": -1.5, "4": -3.0, "Y": -4.0}).tolist()
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
    """The texts of a response, white space at their ends removed. Raises Refused for one that a filter withheld."""
    usage = response.get("usage") or {}
    out = []
    for choice in response["choices"]:
        why = choice.get("finish_reason")
        if why == "content_filter":
            raise Refused("the server's content filter withheld the answer")
        content = choice["message"].get("content")
        if isinstance(content, list):  # text parts, as in a request
            content = "".join(str(part.get("text", "")) for part in content)
        if not content and choice["message"].get("reasoning_content"):
            raise Refused(
                "the answer holds the model's reasoning and no text: switch reasoning off in the server, or allow more new tokens"
            )
        tokens = int(usage.get("completion_tokens") or 0) if len(response["choices"]) == 1 else 0
        out.append(Written(str(content or "").strip(), tokens, why in ("stop", "eos", "eos_token")))
    if not out:
        raise ValueError("no choices")
    return out
