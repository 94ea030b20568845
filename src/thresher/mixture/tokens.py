"""Token budgets: tokens per row, and the number of rows closest to a budget.

    20Mtok, 500ktok, 3000tok   answer tokens: those in the loss
    20Mtok:total               prompt, answer and image tokens: the cost of a forward pass

Counts come from a stored loss column if there is one; else they are estimated from the text: the
larger of `TOKENS_PER_WORD` per word and one token per `CHARS_PER_TOKEN` characters. Tokens per
image and per scored video are the mean over a sample of the pool's from the model's own processor
or, without a local model, `TOKENS_PER_IMAGE` and `TOKENS_PER_FRAME` of each frame.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from thresher.errors import (
    CapabilityError,
    ConfigError,
    ImageError,
    MissingExtra,
    ModelError,
    opt,
)
from thresher.pools.token_estimate import (
    ASSUMED,
    CHARS_PER_TOKEN,
    TOKENS_PER_FRAME,
    TOKENS_PER_IMAGE,
    TOKENS_PER_WORD,
    MediaTokens,
    estimate_tokens,
)
from thresher.types import Columns, Tokens, VideoRef

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools import Pool

SAMPLE_IMAGES = 32  # maximum number of images, sampled by a hash of their paths
SAMPLE_VIDEOS = 8  # maximum number of rows with videos
BATCH_ROWS = 4096
_T = TypeVar("_T")


class TokenCounts:
    """Tokens of each row of a pool, float64 [n], pool order. The attribute `how` describes how they
    were counted.

    Arguments:
        pool: n rows.
        budget: in tokens, of answers or of whole rows.
        model: its image and video tokens are counted; None: they are estimated.
    """

    def __init__(self, pool: Pool, budget: Tokens, model: ModelHandle | None = None) -> None:
        self.budget = budget
        self.answer = estimate_tokens(pool.facts["answer_words"], pool.facts["answer_chars"])
        self.rest = np.zeros(len(pool))
        text = f"{TOKENS_PER_WORD} tokens a word, at least one per {CHARS_PER_TOKEN} characters"
        media = media_tokens(pool, model) if budget.total else ASSUMED
        if budget.total:
            self.rest = _prompts(pool, media)
        self.how = text + media.how
        self._media = media.how
        self._text = text

    def use_measured(self, columns: Columns, rows: np.ndarray) -> None:
        """Use answer lengths measured by a loss signal, if `columns` has one.

        Arguments:
            columns: m rows, with the signals of a method.
            rows: int64 [m], the pool rows of `columns`.
        """
        for name, values in columns.values.items():
            if "nll" in values and "tokens" in values:
                self.answer = self.answer.copy()
                self.answer[rows] = values["tokens"]
                also = f"; prompts: {self._text}{self._media}" if self.budget.total else ""
                self.how = f"the model's tokenizer ({name}){also}"
                return

    @property
    def tokens(self) -> np.ndarray:
        return self.answer + self.rest


def estimate_rows(counts: TokenCounts, rows: np.ndarray) -> int:
    """Estimated number of rows that fill the budget, 1 … len(rows), at the mean length of
    `rows`.

    Arguments:
        counts: tokens of each row of the pool.
        rows: int64 [r], pool rows that can be selected.
    """
    mean = float(counts.tokens[rows].mean()) if len(rows) else 1.0
    return max(min(int(counts.budget.amount / max(mean, 1e-9)), len(rows)), 1)


def largest_selection(
    choose: Callable[[int], _T],
    tokens: Callable[[_T], float],
    amount: int,
    max_rows: int,
    guess: int,
) -> _T:
    """`choose(k)` for the largest k found by bisection with at most `amount` tokens.

    Tokens need not grow with k (methods may select other rows for another k); the result always
    satisfies the budget. If quotas cannot be met by the estimated number of rows, larger numbers
    are tried.

    Arguments:
        choose: selects k rows; may raise ConfigError for quotas that cannot be met.
        tokens: total tokens of a selection.
        amount: maximum number of tokens.
        max_rows: maximum k.
        guess: where the search starts.

    Raises ConfigError if a single row exceeds the budget, or no k meets the quotas.
    """
    errors: list[tuple[int, ConfigError]] = []

    def allowed(k: int) -> _T | None:
        try:
            return choose(k)
        except ConfigError as error:
            errors.append((k, error))
            return None

    def search(fitting: int, best: _T | None, too_large: int, k: int) -> _T | None:
        step = max(guess // 64, 1)
        while too_large - fitting > 1:
            if not fitting < k < too_large:
                k = (fitting + too_large) // 2
            found = allowed(k)
            if found is not None and tokens(found) <= amount:
                fitting, best = k, found
                k = k + step  # near the guess first, then bisect
            else:
                too_large = k
                k = k - step
            step *= 2
        return best

    best = search(0, None, max_rows + 1, min(max(guess, 1), max_rows))
    if best is None and errors:  # too few rows for a quota?
        low, high = errors[0][0], max_rows
        if low == max_rows or allowed(max_rows) is None:
            raise errors[0][1]
        while high - low > 1:
            k = (low + high) // 2
            low, high = (k, high) if allowed(k) is None else (low, k)
        smallest = choose(high)
        if tokens(smallest) > amount:
            raise errors[0][1]
        best = search(high, smallest, max_rows + 1, high + 1)
    if best is None:
        raise ConfigError(
            f"A budget of {amount:,} tokens is less than the first row that the method would "
            f"take, or than the rows that are always taken ({opt('keep')}, "
            f"{opt('unscorable', 'keep')}). Raise it."
        )
    return best


def media_tokens(pool: Pool, model: ModelHandle | None) -> MediaTokens:
    """Tokens per image and per scored video. Processes at most `SAMPLE_IMAGES` images and the
    videos of `SAMPLE_VIDEOS` rows.

    Arguments:
        pool: the images and videos.
        model: whose tokens are counted; None: they are estimated.
    """
    image, how = float(TOKENS_PER_IMAGE), ""
    if pool.facts["images"].any():
        image, how = _image_tokens(pool, model)
    if pool.video_frames is None or not pool.facts["video"].any():
        return MediaTokens(image, 0.0, how)
    try:
        video, how_videos = _video_tokens(pool, model, pool.video_frames)
    except CapabilityError as error:
        return MediaTokens(image, 0.0, how, error.message)
    return MediaTokens(image, video, how + how_videos)


def _image_tokens(pool: Pool, model: ModelHandle | None) -> tuple[float, str]:
    """(tokens per image, how they were counted)."""
    if model is not None and model.image_tokens is not None:
        names = list(pool.index.image_path)
        sampled = heapq.nsmallest(
            SAMPLE_IMAGES,
            range(len(names)),
            key=lambda i: hashlib.sha256(names[i].encode("utf-8", "surrogatepass")).digest(),
        )
        images = []
        for number in sampled:
            try:
                images.append(pool.load_image(pool.image(number)))
            except ImageError:
                continue
        try:
            counts = model.image_tokens(images)
        except (ModelError, MissingExtra):  # reported by a run that needs the model
            counts = []
        if counts:
            each = sum(counts) / len(counts)
            return each, f", {each:,.0f} an image (the model's processor, mean of {len(counts)})"
    return float(TOKENS_PER_IMAGE), (
        f", {TOKENS_PER_IMAGE} an image (assumed, as LLaVA-1.5 has; models differ)"
    )


def _video_tokens(pool: Pool, model: ModelHandle | None, frames: int) -> tuple[float, str]:
    """(tokens per video, how they were counted). Raises CapabilityError if the model takes none."""
    if model is not None and model.video_tokens is not None:
        rows = pool.order[pool.facts["video"][pool.order] & ~pool.has_problem[pool.order]]
        videos = []
        for sample in pool.samples(rows[:SAMPLE_VIDEOS]):
            for ref in sample.images:
                if isinstance(ref, VideoRef):
                    try:
                        videos.append(pool.load_image(ref))
                    except ImageError:
                        continue
        try:
            counts = model.video_tokens(videos)
        except CapabilityError:
            raise
        except (ModelError, MissingExtra):  # reported by a run that needs the model
            counts = []
        if counts:
            each = sum(counts) / len(counts)
            return each, f", {each:,.0f} a video (the model's processor, mean of {len(counts)})"
    each = float(TOKENS_PER_FRAME * frames)
    return each, (
        f", {each:,.0f} a video (assumed, {TOKENS_PER_FRAME} a frame as LLaVA-OneVision has; "
        "models differ)"
    )


def _prompts(pool: Pool, media: MediaTokens) -> np.ndarray:
    """Tokens of everything but the answers, float64 [n]."""
    out = np.zeros(len(pool))
    for start in range(0, len(pool), BATCH_ROWS):
        rows = np.arange(start, min(start + BATCH_ROWS, len(pool)))
        samples = pool.samples(rows)
        texts = [[t.text for t in s.turns if t.role != "assistant"] for s in samples]
        words = np.array([sum(len(t.split()) for t in texts_of_row) for texts_of_row in texts])
        chars = np.array([sum(map(len, texts_of_row)) for texts_of_row in texts])
        out[rows] = media.of(samples) + estimate_tokens(words, chars)
    return out


def describe_budget(tokens: Mapping[str, object]) -> str:
    """A note: tokens requested, tokens selected, and how they were counted."""
    return "{reached:,} {kind} of {amount:,} requested: {rows:,} rows. Counted by {how}.".format(
        **tokens
    )
