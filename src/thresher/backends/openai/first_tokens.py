"""Which token each answer begins with, as token ids, for a server that shows its tokenizer: vLLM's
`/tokenize`. Other servers are asked by the tokens' texts (`completions.first_token_logprobs`)."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from thresher.backends.openai.answer_tokens import common_prefix
from thresher.backends.openai.client import Client
from thresher.errors import ConfigError

AS_IDS = {"return_tokens_as_token_ids": True}
"""The setting of a chat completion with which vLLM names tokens by their ids."""

_QUESTION = {"role": "user", "content": "Say yes."}


class FirstTokens:
    """The first tokens of answers, found out once per answer. Safe to use from several threads.

    Arguments:
        client: of the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._asked: dict[str, list[int] | None] = {}  # request as JSON -> token ids

    def ids(self, answers: Sequence[str]) -> list[int] | None:
        """The id of each answer's first token; None if the server does not show its tokenizer.

        That is the token that follows the generation prompt. If it is the same for several answers,
        because the template writes a space before an answer and the tokenizer keeps it apart, it is
        the first token of the answer's own text.

        Arguments:
            answers: m texts, not empty.

        Raises ConfigError if two answers begin with the same token, and what the client raises.
        """
        prompt = self._tokens(messages=[_QUESTION], add_generation_prompt=True)
        if prompt is None:
            return None
        ids = [self._after(prompt, answer) for answer in answers]
        texts = dict(zip(answers, ids, strict=True))
        shared = Counter(texts.values())
        ids = [
            self._own(answer) if i is None or shared[i] > 1 else i
            for answer, i in zip(answers, ids, strict=True)
        ]
        for k, token in enumerate(ids):
            if token is None:
                return None
            if answers[first := ids.index(token)] != answers[k]:
                raise ConfigError(
                    f"The answers {answers[first]!r} and {answers[k]!r} begin with the same token "
                    "for the server's model, so their first tokens cannot tell them apart. Word "
                    "them differently."
                )
        return [i for i in ids if i is not None]

    def _after(self, prompt: list[int], answer: str) -> int | None:
        """The token after the generation prompt; None for a template that writes a finished turn
        differently."""
        turn = {"role": "assistant", "content": answer}
        whole = self._tokens(
            messages=[_QUESTION, turn], add_generation_prompt=False, continue_final_message=True
        )
        follows = whole is not None and common_prefix(prompt, whole) == len(prompt) < len(whole)
        return whole[len(prompt)] if follows and whole is not None else None

    def _own(self, answer: str) -> int | None:
        tokens = self._tokens(prompt=answer, add_special_tokens=False)
        return tokens[0] if tokens else None

    def _tokens(self, **body: Any) -> list[int] | None:
        key = json.dumps(body)
        with self._lock:
            if key not in self._asked:
                self._asked[key] = self._client.tokenize(body)
            return self._asked[key]
