"""Budgets in tokens: how many tokens a row is, and the number of rows that comes nearest to a budget of tokens.

    20Mtok, 500ktok, 3000tok   answer tokens: what the loss is taken over
    20Mtok:total               prompt, answer and image tokens: what a forward pass costs

Counts come from a stored column where a loss signal counted the answer's tokens; else they are estimated from the text:
the larger of `TOKENS_PER_WORD` a word and one token per `CHARS_PER_TOKEN` characters. An image counts what the model's own
processor gives to some of the pool's images on average or, without a model's weights, `TOKENS_PER_IMAGE`.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from thresher.errors import ConfigError
from thresher.types import Columns

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools import Pool

TOKENS_PER_WORD = 1.4  # English text under common tokenizers
CHARS_PER_TOKEN = 4
TOKENS_PER_IMAGE = 576  # LLaVA-1.5's; from 64 (SmolVLM) to several thousand (anyres)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMbBgG]?)\s*tok(?:en)?s?\s*(?::\s*(\w+))?")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
LOOKED_AT = 32  # images at most, drawn by a hash of their paths
READ = 4096
_T = TypeVar("_T")


@dataclass(frozen=True)
class TokenBudget:
    """`amount` tokens at most; `total`: of prompt, answer and images together, else of answers."""

    text: str
    amount: int
    total: bool

    @property
    def kind(self) -> str:
        return "tokens in all" if self.total else "answer tokens"


def parse_tokens(text: str) -> TokenBudget | None:
    """None for a budget that is not in tokens. Raises ConfigError.

    >>> parse_tokens("1.5Mtok:total")
    TokenBudget(text='1.5Mtok:total', amount=1500000, total=True)
    >>> parse_tokens("30%") is None
    True
    """
    found = _AMOUNT.fullmatch(text.strip())
    if not found:
        if "tok" in text.lower():
            raise ConfigError(
                f"--budget {text} is not a number of tokens. Give answer tokens such as 20Mtok or 500ktok, or all tokens "
                "with images such as 20Mtok:total."
            )
        return None
    if found[3] not in (None, "total", "answer"):
        raise ConfigError(f"--budget {text}: expected :total or :answer after the number, not :{found[3]}.")
    amount = math.floor(Fraction(found[1]) * _SCALE[found[2].lower()])
    if amount < 1:
        raise ConfigError(f"--budget {text}: at least one token must be kept.")
    return TokenBudget(text, amount, found[3] == "total")


def estimated(words: np.ndarray, chars: np.ndarray) -> np.ndarray:
    """Tokens of texts, float64 [n], from their words and characters."""
    return np.maximum(TOKENS_PER_WORD * np.asarray(words, np.float64), np.asarray(chars, np.float64) / CHARS_PER_TOKEN)


class TokenCounts:
    """Tokens of each row of a pool, float64 [n], pool order, and how they were counted, in words."""

    def __init__(self, pool: Pool, budget: TokenBudget, model: ModelHandle | None = None) -> None:
        self.budget = budget
        self.answer = estimated(pool.facts["answer_words"], pool.facts["answer_chars"])
        self.rest = np.zeros(len(pool))
        text = f"{TOKENS_PER_WORD} tokens a word, at least one per {CHARS_PER_TOKEN} characters"
        images = ""
        if budget.total:
            each, images = image_tokens(pool, model) if pool.facts["images"].any() else (0.0, "")
            self.rest = _prompts(pool, each)
        self.how = text + images
        self._images = images
        self._text = text

    def measured(self, columns: Columns, rows: np.ndarray) -> None:
        """Take the answers' lengths from a signal that counted tokens, if one is among `columns`, whose pool rows are `rows`."""
        for name, values in columns.values.items():
            if "nll" in values and "tokens" in values:
                self.answer = self.answer.copy()
                self.answer[rows] = values["tokens"]
                also = f"; prompts: {self._text}{self._images}" if self.budget.total else ""
                self.how = f"the model's tokenizer ({name}){also}"
                return

    @property
    def tokens(self) -> np.ndarray:
        return self.answer + self.rest


def rows_for(counts: TokenCounts, rows: np.ndarray) -> int:
    """How many average rows of `rows` (pool rows) make up the budget, 1 … len(rows): a first guess."""
    mean = float(counts.tokens[rows].mean()) if len(rows) else 1.0
    return max(min(int(counts.budget.amount / max(mean, 1e-9)), len(rows)), 1)


def most_rows(choose: Callable[[int], _T], tokens: Callable[[_T], float], amount: int, most: int, guess: int) -> _T:
    """`choose(k)` for the largest k <= `most` that bisection finds with at most `amount` tokens.

    Tokens need not grow with k (methods may choose others for another k); what is returned satisfies the budget. Where
    quotas cannot be met by the number of rows that the budget suggests, larger numbers are tried. Raises ConfigError where
    a single row is more, or no k meets the quotas.
    """
    refused: list[tuple[int, ConfigError]] = []

    def allowed(k: int) -> _T | None:
        try:
            return choose(k)
        except ConfigError as error:
            refused.append((k, error))
            return None

    def search(good: int, best: _T | None, bad: int, k: int) -> _T | None:
        step = max(guess // 64, 1)
        while bad - good > 1:
            if not good < k < bad:
                k = (good + bad) // 2
            found = allowed(k)
            if found is not None and tokens(found) <= amount:
                good, best = k, found
                k = k + step  # near the guess first, then by halves
            else:
                bad = k
                k = k - step
            step *= 2
        return best

    best = search(0, None, most + 1, min(max(guess, 1), most))
    if best is None and refused:  # too few rows for the least that a quota asks for?
        low, high = refused[0][0], most
        if low == most or allowed(most) is None:
            raise refused[0][1]
        while high - low > 1:
            k = (low + high) // 2
            low, high = (k, high) if allowed(k) is None else (low, k)
        least = choose(high)
        if tokens(least) > amount:
            raise refused[0][1]
        best = search(high, least, most + 1, high + 1)
    if best is None:
        raise ConfigError(
            f"A budget of {amount:,} tokens is less than the first row that the method would take, or than the rows of --keep. "
            "Raise it."
        )
    return best


def image_tokens(pool: Pool, model: ModelHandle | None) -> tuple[float, str]:
    """(tokens of an image, how that is known, in words that go on a sentence). Looks at `LOOKED_AT` images at most."""
    from thresher.errors import ImageError, MissingExtra, ModelError

    if model is not None and model.image_tokens is not None:
        names = list(pool.index.image_path)
        drawn = heapq.nsmallest(
            LOOKED_AT,
            range(len(names)),
            key=lambda i: hashlib.sha256(names[i].encode("utf-8", "surrogatepass")).digest(),
        )
        seen = []
        for number in drawn:
            try:
                seen.append(pool.load_image(pool.image(number)))
            except ImageError:
                continue
        try:
            counts = model.image_tokens(seen)
        except (ModelError, MissingExtra):  # a run that needs the model says so itself
            counts = []
        if counts:
            each = sum(counts) / len(counts)
            return each, f", {each:,.0f} an image (the model's processor, mean of {len(counts)})"
    return float(TOKENS_PER_IMAGE), f", {TOKENS_PER_IMAGE} an image (assumed, as LLaVA-1.5 has; models differ)"


def _prompts(pool: Pool, image: float) -> np.ndarray:
    """Tokens of everything but the answers, float64 [n]. `image`: tokens of one."""
    out = np.asarray(pool.facts["images"], np.float64) * image
    for start in range(0, len(pool), READ):
        rows = np.arange(start, min(start + READ, len(pool)))
        texts = [[t.text for t in s.turns if t.role != "assistant"] for s in pool.samples(rows)]
        words = np.array([sum(len(t.split()) for t in said) for said in texts])
        chars = np.array([sum(map(len, said)) for said in texts])
        out[rows] += estimated(words, chars)
    return out


def reached(tokens: Mapping[str, object]) -> str:
    """One sentence for the notes: what was asked, what was reached, how it was counted."""
    return "{reached:,} {kind} of {amount:,} asked: {rows:,} rows. Counted by {how}.".format(**tokens)
