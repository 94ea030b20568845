"""When two texts say the same: normal forms for exact comparison, MinHash signatures for near comparison. Pure.

A signature is b-bit MinHash: `PERMUTATIONS` hashes of the text's shingles (three words in a row), of each the lowest 16
bits, and the number of words. The share of equal hashes estimates the Jaccard similarity of the shingle sets, with a
standard deviation of at most 0.045. A text of fewer than `SHORT` words is near to nothing but the same words: one word
makes another question of it ("Is there a circle?"). The hashing is rensa's (Rust); its algorithm's version is part of every
signature's identity.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from thresher.errors import MissingExtra
from thresher.extras import install
from thresher.types import IMAGE_PLACEHOLDER, Sample

PERMUTATIONS = 127
SHINGLE = 3  # words
SEED = 1  # of the permutations: fixed, because signatures of different pools are compared
ALGORITHM = 2  # rensa's RMinHash.ALGORITHM_VERSION that the stored signatures were made with
SHORT = 16  # words
SIGNATURE = 2 * (PERMUTATIONS + 1)  # bytes

# What data sets append to a question to say how it should be answered: the question is the same without it.
FORMAT_PROMPTS = (
    "answer the question using a single word or phrase.",
    "answer with the option's letter from the given choices directly.",
    "answer with the option letter from the given choices directly.",
    "please answer yes or no.",
    "answer yes or no.",
)

_SPACE = re.compile(r"\s+")
# A word, or a single sign of a script that puts no spaces between words (kana, CJK, Hangul is spaced, Thai).
_TOKEN = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+")


def normal(text: str) -> str:
    """Unicode compatibility form, without `<image>`, lower case, white space as single blanks.

    >>> normal("<image>\\nWhat  COLOUR\\u00a0is it?")
    'what colour is it?'
    """
    if IMAGE_PLACEHOLDER in text:
        text = text.replace(IMAGE_PLACEHOLDER, " ")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _SPACE.sub(" ", text.casefold()).strip()


def question(text: str) -> str:
    """`normal`, without a closing sentence that only says how to answer.

    >>> question("<image>\\nIs it red?\\nAnswer the question using a single word or phrase.")
    'is it red?'
    """
    out = normal(text)
    for prompt in FORMAT_PROMPTS:
        if out.endswith(prompt) and len(out) > len(prompt):
            return out[: -len(prompt)].rstrip()
    return out


def said(sample: Sample, *roles: str) -> str:
    """The normal form of all turns of these roles, one after the other."""
    return normal("\n".join(t.text for t in sample.turns if t.role in roles))


def tokens(text: str) -> list[str]:
    """Words of a normal form, punctuation left out; signs of unspaced scripts one by one.

    >>> tokens("is it red, or 赤い?")
    ['is', 'it', 'red', 'or', '赤', 'い']
    """
    return _TOKEN.findall(text)


def shingles(text: str) -> list[str]:
    """Runs of `SHINGLE` tokens; a shorter text is one shingle, a text without a token is its own only one."""
    return _shingles(text, tokens(text))


def _shingles(text: str, words: list[str]) -> list[str]:
    if len(words) <= SHINGLE:
        return [" ".join(words) if words else text]
    return [" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)]


def signatures(texts: Iterable[str]) -> np.ndarray:
    """uint16 [m, PERMUTATIONS + 1], one row a normal form; last its words, at most 65535. Raises MissingExtra without rensa."""
    try:
        from rensa import RMinHash  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra(f"Near duplicates of texts need rensa: {install('duplicates')}") from None
    assert RMinHash.ALGORITHM_VERSION == ALGORITHM, (
        "rensa hashes in another way now: raise ALGORITHM and check the tests"
    )
    given = list(texts)
    if not given:
        return np.zeros((0, PERMUTATIONS + 1), np.uint16)
    different = {text: i for i, text in enumerate(dict.fromkeys(given))}  # templated questions repeat a lot
    words = [tokens(text) for text in different]
    sets = [
        [s.encode("utf-8", "surrogatepass") for s in _shingles(text, said)]
        for text, said in zip(different, words, strict=True)
    ]
    matrix = RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, SEED)
    length = np.minimum([len(said) for said in words], 65535)
    out = np.hstack([np.array(matrix.to_rows(), np.uint32), length[:, None]]).astype(np.uint16)
    return out[[different[text] for text in given]]


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity, float32 [m], 0 to 1, of signatures [m, PERMUTATIONS + 1], place by place.

    0 where one of the texts is short and the other says something else.
    """
    equal = (a[:, :-1] == b[:, :-1]).mean(axis=1, dtype=np.float32)
    short = np.minimum(a[:, -1], b[:, -1]) < SHORT
    return np.asarray(np.where(short & (equal < 1), np.float32(0), equal))


def as_bytes(signature: np.ndarray) -> np.ndarray:
    """Signatures [m, PERMUTATIONS + 1] -> S<SIGNATURE> [m], little-endian: as the store keeps it."""
    return np.ascontiguousarray(signature, "<u2").view(f"S{SIGNATURE}").reshape(-1)


def from_bytes(column: np.ndarray) -> np.ndarray:
    """The opposite of `as_bytes`."""
    data = np.ascontiguousarray(column, f"S{SIGNATURE}")
    return data.view("<u2").reshape(len(data), PERMUTATIONS + 1)


def union(groups: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components, int64 [groups]: the smallest member of each one's component. `pairs`: int64 [p, 2].

    >>> union(5, np.array([[0, 3], [3, 4]])).tolist()
    [0, 1, 2, 0, 0]
    """
    label = np.arange(groups)
    if not len(pairs):
        return label
    a, b = pairs[:, 0], pairs[:, 1]
    while True:
        low = np.minimum(label[a], label[b])
        before = label.copy()
        np.minimum.at(label, label[a], low)  # hook roots to the smaller root …
        np.minimum.at(label, label[b], low)
        np.minimum.at(label, a, low)
        np.minimum.at(label, b, low)
        label = label[label]  # … and shorten the way
        if np.array_equal(label, before):
            return label


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pairs of several searches as one array int64 [p, 2], smaller first, each once, sorted."""
    if not parts:
        return np.zeros((0, 2), np.int64)
    pairs = np.concatenate(parts)
    pairs.sort(axis=1)
    return np.unique(pairs, axis=0) if len(pairs) else pairs.reshape(0, 2)
