"""Characteristic words of clusters of texts: class-based TF-IDF (c-TF-IDF, Grootendorst,
arXiv:2203.05794)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

# A word, or a single character of a script without spaces between words.
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+")


def distinctive_words(
    texts: Sequence[str], cluster: np.ndarray, count: int = 4
) -> list[tuple[str, ...]]:
    """The words with the highest weight in each cluster, highest first.

    The weight of a word is its frequency in the cluster times log(1 + mean words per cluster /
    occurrences in all clusters). Ties are in alphabetical order.

    Arguments:
        texts: n texts.
        cluster: int [n], >= 0.
        count: maximum number of words per cluster, >= 0.

    >>> texts = ["what colour is the cat", "what colour is the car", "read the digits", "read it"]
    >>> distinctive_words(texts, np.array([0, 0, 1, 1]), 2)
    [('colour', 'is'), ('read', 'digits')]
    """
    found: list[Counter[str]] = [Counter() for _ in range(int(np.max(cluster, initial=-1)) + 1)]
    for text, c in zip(texts, np.asarray(cluster).tolist(), strict=True):
        found[c].update(_WORD.findall(text.casefold()))
    everywhere: Counter[str] = Counter()
    for words in found:
        everywhere.update(words)
    mean = everywhere.total() / max(len(found), 1)
    idf = {word: float(np.log1p(mean / times)) for word, times in everywhere.items()}
    return [_heaviest(words, idf, count) for words in found]


def _heaviest(words: Counter[str], idf: Mapping[str, float], count: int) -> tuple[str, ...]:
    return tuple(sorted(words, key=lambda w: (-words[w] * idf[w], w))[:count])
