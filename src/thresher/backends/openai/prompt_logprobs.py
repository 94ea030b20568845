"""Reading `prompt_logprobs`, vLLM's extension of a chat completion: the log-probability of every
token of the prompt. Pure functions.

One entry per token: null for the first, else a map from token ids to `logprob`, `rank` and
`decoded_token`, with the prompt's own token first, and only that one for `prompt_logprobs=0`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from thresher.backends.openai.completions import list_choices, read_logprob

EXTENSIONS = ("prompt_logprobs", "add_generation_prompt", "continue_final_message")
"""The parameters that chat completions do not have elsewhere."""


@dataclass(frozen=True)
class PromptTokens:
    """The tokens of a prompt, n of them.

    ids: token ids; -1 for the first, which has no log-probability.
    logprobs: in nats; NaN for the first.
    greedy: whether the token is the most likely one after those before it.
    texts: as the server decodes them one by one.
    stopped: whether the model ends its answer at once after the prompt.
    """

    ids: list[int]
    logprobs: list[float]
    greedy: list[bool]
    texts: list[str]
    stopped: bool


class NoPromptLogprobs(Exception):
    """An answer without `prompt_logprobs`."""


def read_prompt(response: dict[str, Any]) -> PromptTokens:
    """The tokens of the request's prompt. Raises NoPromptLogprobs, and ValueError for entries in
    another form."""
    choice = list_choices(response)[0]
    entries = response.get("prompt_logprobs", choice.get("prompt_logprobs"))
    if not isinstance(entries, list) or not entries:
        raise NoPromptLogprobs
    tokens = PromptTokens([-1], [math.nan], [False], [""], choice.get("finish_reason") == "stop")
    for entry in entries[1:]:
        if not isinstance(entry, dict) or not entry:
            raise ValueError("a token of the prompt has no log-probability")
        key, found = next(iter(entry.items()))
        if not key.isdecimal() or not isinstance(found, dict):
            raise ValueError("an entry of prompt_logprobs is not a token id with its values")
        tokens.ids.append(int(key))
        tokens.logprobs.append(read_logprob(found.get("logprob")))
        tokens.greedy.append(found.get("rank") == 1)
        tokens.texts.append(str(found.get("decoded_token") or ""))
    return tokens
