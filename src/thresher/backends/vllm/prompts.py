"""Where the tokens of a prompt are once vLLM has put in the tokens of its images, and the
log-probabilities of these tokens. Pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Prompt:
    """ids: token ids with one placeholder token per image. images: RGB `PIL.Image`s in order."""

    ids: list[int]
    images: tuple[Any, ...] = ()


def expanded_positions(
    ids: Sequence[int], placeholders: Sequence[int], expanded: Sequence[int]
) -> np.ndarray | None:
    """Where each token of a prompt is after the placeholders were replaced by images' tokens.

    Arguments:
        ids: n token ids with one placeholder per image.
        placeholders: the positions of these.
        expanded: token ids with the images' tokens.

    Returns int64 [n], of a placeholder the position of its first token; None if `expanded` has
    other tokens than `ids` beside those of the images.

    >>> expanded_positions([1, 9, 2, 3, 9, 4], [1, 4], [1, 9, 9, 2, 3, 8, 9, 7, 4]).tolist()
    [0, 1, 3, 4, 5, 8]
    >>> expanded_positions([1, 9, 2], [1], [1, 9, 9, 3]) is None
    True
    """
    out = np.zeros(len(ids), np.int64)
    known, whole = list(ids), list(expanded)
    at = 0  # in `expanded`
    borders = [-1, *placeholders, len(known)]
    for k, (before, after) in enumerate(itertools.pairwise(borders)):
        text = known[before + 1 : after]
        last = after == len(known)
        first = at + (k > 0)  # an image has at least one token
        found = len(whole) - len(text) if last and k > 0 else _find(whole, text, first, k == 0)
        if found is None or found < first or whole[found : found + len(text)] != text:
            return None
        if k > 0:
            out[before] = at
        out[before + 1 : after] = np.arange(found, found + len(text))
        at = found + len(text)
    return out if at == len(whole) else None


def _find(whole: list[int], text: list[int], first: int, here: bool) -> int | None:
    """Where `text` begins in `whole`, at `first` or later; with `here`, only at `first`."""
    for start in range(first, first + 1 if here else len(whole) - len(text) + 1):
        if whole[start : start + len(text)] == text:
            return start
    return None


@dataclass(frozen=True, slots=True)
class TokenScores:
    """The log-probability of each token of a prompt of n tokens.

    ids: int64 [n]. logprobs: float64 [n] in nats, NaN where it is not known. likeliest: int64 [n],
    the most likely token at each position, -1 where it is not known. following: the most likely
    token after the prompt.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    likeliest: np.ndarray
    following: int

    @classmethod
    def read(
        cls, prompt_ids: Sequence[int], found: Any, cached: int, following: int
    ) -> TokenScores:
        """From vLLM's `prompt_logprobs`.

        Arguments:
            prompt_ids: n token ids.
            found: vLLM's flat log-probabilities: for each position the prompt's own token, then the
                most likely one. Positions from the prefix cache may be left out at the beginning.
            cached: tokens that came from the prefix cache, whose log-probabilities mean nothing.
            following: the most likely token after the prompt.
        """
        n = len(prompt_ids)
        ids = np.asarray(prompt_ids, np.int64)
        logprobs, likeliest = np.full(n, np.nan), np.full(n, -1, np.int64)
        spans = zip(found.start_indices, found.end_indices, strict=True)
        entries = [k for k, (start, end) in enumerate(spans) if start < end]
        for k, position in zip(reversed(entries), range(n - 1, max(cached, 0), -1), strict=False):
            start, end = found.start_indices[k], found.end_indices[k]
            if found.token_ids[start] == prompt_ids[position]:
                logprobs[position] = found.logprobs[start]
                likeliest[position] = found.token_ids[end - 1]
        return cls(ids, logprobs, likeliest, following)

    def known(self, positions: np.ndarray) -> bool:
        """Whether the log-probabilities at all of these positions are known."""
        return not np.isnan(self.logprobs[positions]).any()

    def predicted(self, positions: Sequence[int]) -> dict[int, int]:
        """For each position, the most likely token after it."""
        after = [*self.likeliest.tolist(), self.following]
        return {p: after[p + 1] for p in positions}
