"""Tokens of a row, estimated from what is known since the pool was read: no tokenizer is needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

TOKENS_PER_WORD = 1.4  # English text under common tokenizers
CHARS_PER_TOKEN = 4
TOKENS_PER_IMAGE = 576  # LLaVA-1.5's; from 64 (SmolVLM) to several thousand (anyres)
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


def estimate_row_tokens(facts: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Estimated tokens of whole rows, float64 [r], at least 1: answers, images and, roughly, the
    other texts. Good enough to divide work; `mixture.tokens` counts for budgets.

    Arguments:
        facts: of the pool: `answer_words`, `answer_chars`, `images`, `turns`.
        rows: int64 [r], pool rows.
    """
    answers = estimate_tokens(facts["answer_words"][rows], facts["answer_chars"][rows])
    images = TOKENS_PER_IMAGE * np.asarray(facts["images"][rows], np.float64)
    return np.maximum(answers + images + TOKENS_PER_TURN * facts["turns"][rows], 1.0)
