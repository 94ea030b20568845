"""Tokens of a row, estimated from what is known since the pool was read: no tokenizer is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thresher.types import Sample, VideoRef

TOKENS_PER_WORD = 1.4  # English text under common tokenizers
CHARS_PER_TOKEN = 4
TOKENS_PER_IMAGE = 576  # LLaVA-1.5's; from 64 (SmolVLM) to several thousand (anyres)
TOKENS_PER_FRAME = 196  # of a video: LLaVA-OneVision's; from 16 (SmolVLM) to about a thousand
TOKENS_PER_TURN = 32  # of a short question, where its text is not at hand


def estimate_tokens(words: np.ndarray, chars: np.ndarray) -> np.ndarray:
    """Estimated tokens of texts, float64 [n], from their numbers of words and characters.

    Arguments:
        words: int [n], number of words of each text.
        chars: int [n], number of characters of each text.
    """
    return np.maximum(
        TOKENS_PER_WORD * np.asarray(words, np.float64),
        np.asarray(chars, np.float64) / CHARS_PER_TOKEN,
    )


@dataclass(frozen=True)
class MediaTokens:
    """Mean tokens of an image and of a scored video in a prompt.

    how: how they were counted, such as ", 576 an image (…)"; "" without media.
    no_videos: why the model takes no videos, as a row's error; "": it does, or is not known.
    """

    image: float
    video: float
    how: str = ""
    no_videos: str = ""

    def of(self, samples: Sequence[Sample]) -> np.ndarray:
        """Tokens of the images and videos of each row, float64 [r]."""
        videos = [
            sum(isinstance(ref, VideoRef) and not ref.problem for ref in sample.images)
            for sample in samples
        ]
        images = [sum(not isinstance(ref, VideoRef) for ref in sample.images) for sample in samples]
        return self.image * np.array(images, np.float64) + self.video * np.array(videos, np.float64)


ASSUMED = MediaTokens(float(TOKENS_PER_IMAGE), float(TOKENS_PER_FRAME))
"""Without a model, of images and of videos of one frame."""


def estimate_row_tokens(facts: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Estimated tokens of whole rows, float64 [r], at least 1: answers, images (a scored video is
    one) and, roughly, the other texts. Good enough to divide work; `mixture.tokens` counts for
    budgets.

    Arguments:
        facts: of the pool: `answer_words`, `answer_chars`, `images`, `visual`, `turns`.
        rows: int64 [r], pool rows.
    """
    answers = estimate_tokens(facts["answer_words"][rows], facts["answer_chars"][rows])
    images = np.maximum(facts["images"][rows], facts["visual"][rows])
    media = TOKENS_PER_IMAGE * images.astype(np.float64)
    return np.maximum(answers + media + TOKENS_PER_TURN * facts["turns"][rows], 1.0)
