"""Text similarity: normal forms for exact comparison, MinHash signatures for near comparison. Pure.

A signature is b-bit MinHash: the lowest 16 bits of `PERMUTATIONS` hashes of the text's shingles
(three consecutive words), and the number of words. The fraction of equal hashes estimates the
Jaccard similarity of the shingle sets with a standard deviation of at most 0.045. A text of fewer
than `SHORT` words is similar only to the same words: one word changes its meaning ("Is there a
circle?"). Hashing is done by rensa (Rust); its algorithm version is part of every signature's
identity.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from thresher.errors import MissingExtra
from thresher.extras import install_command
from thresher.types import IMAGE_PLACEHOLDER, Sample

PERMUTATIONS = 127
SHINGLE = 3  # words
SEED = 1  # of the permutations: fixed, because signatures of different pools are compared
ALGORITHM = 2  # rensa's RMinHash.ALGORITHM_VERSION that the stored signatures were made with
SHORT = 16  # words
SIGNATURE = 2 * (PERMUTATIONS + 1)  # bytes

# Instructions on the answer's format that data sets append to a question; removed for comparison.
FORMAT_PROMPTS = (
    "answer the question using a single word or phrase.",
    "answer with the option's letter from the given choices directly.",
    "answer with the option letter from the given choices directly.",
    "please answer yes or no.",
    "answer yes or no.",
)

_SPACE = re.compile(r"\s+")
# A word, or a single character of a script without spaces between words (kana, CJK, Thai).
_TOKEN = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+")


def normalise(text: str) -> str:
    """NFKC, without `<image>`, case-folded, white space collapsed.

    >>> normalise("<image>\\nWhat  COLOUR\\u00a0is it?")
    'what colour is it?'
    """
    if IMAGE_PLACEHOLDER in text:
        text = text.replace(IMAGE_PLACEHOLDER, " ")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _SPACE.sub(" ", text.casefold()).strip()


def normalise_question(text: str) -> str:
    """As `normalise`, without a closing sentence that only specifies the answer's format.

    >>> normalise_question("<image>\\nIs it red?\\nAnswer with the option's letter from the "
    ...                    "given choices directly.")
    'is it red?'
    """
    out = normalise(text)
    for prompt in FORMAT_PROMPTS:
        if out.endswith(prompt) and len(out) > len(prompt):
            return out[: -len(prompt)].rstrip()
    return out


def text_of(sample: Sample, *roles: str) -> str:
    """The normalised, concatenated turns of the given roles.

    Arguments:
        sample: the row.
        roles: whose turns are included.
    """
    return normalise("\n".join(t.text for t in sample.turns if t.role in roles))


def tokens(text: str) -> list[str]:
    """Words of a normalised text without punctuation; characters of unspaced scripts one by one.

    >>> tokens("is it red, or 赤い?")
    ['is', 'it', 'red', 'or', '赤', 'い']
    """
    return _TOKEN.findall(text)


def shingles(text: str) -> list[str]:
    """Runs of `SHINGLE` tokens; a shorter text is one shingle."""
    return _shingles(text, tokens(text))


def _shingles(text: str, words: list[str]) -> list[str]:
    if len(words) <= SHINGLE:
        return [" ".join(words) if words else text]
    return [" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)]


def signatures(texts: Iterable[str]) -> np.ndarray:
    """Signatures of normalised texts, uint16 [m, PERMUTATIONS + 1]; the last number counts words.

    Raises MissingExtra without rensa.
    """
    try:
        from rensa import RMinHash  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra(
            f"Near duplicates of texts need rensa: {install_command('duplicates')}"
        ) from None
    assert RMinHash.ALGORITHM_VERSION == ALGORITHM, (
        "rensa's hash algorithm changed: raise ALGORITHM and check the tests"
    )
    given = list(texts)
    if not given:
        return np.zeros((0, PERMUTATIONS + 1), np.uint16)
    # templated questions repeat a lot
    distinct = {text: i for i, text in enumerate(dict.fromkeys(given))}
    words = [tokens(text) for text in distinct]
    sets = [
        [s.encode("utf-8", "surrogatepass") for s in _shingles(text, tokens_)]
        for text, tokens_ in zip(distinct, words, strict=True)
    ]
    matrix = RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, SEED)
    length = np.minimum([len(w) for w in words], 65535)
    out = np.hstack([np.array(matrix.to_rows(), np.uint32), length[:, None]]).astype(np.uint16)
    return out[[distinct[text] for text in given]]


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity, float32 [m], 0..1, of signatures [m, PERMUTATIONS + 1], row by
    row.

    0 if one of the texts is short and the other differs.

    Arguments:
        a: signatures [m, PERMUTATIONS + 1].
        b: signatures [m, PERMUTATIONS + 1].
    """
    equal = (a[:, :-1] == b[:, :-1]).mean(axis=1, dtype=np.float32)
    short = np.minimum(a[:, -1], b[:, -1]) < SHORT
    return np.asarray(np.where(short & (equal < 1), np.float32(0), equal))


def as_bytes(signature: np.ndarray) -> np.ndarray:
    """Signatures [m, PERMUTATIONS + 1] -> S<SIGNATURE> [m], little-endian: the stored form."""
    return np.ascontiguousarray(signature, "<u2").view(f"S{SIGNATURE}").reshape(-1)


def from_bytes(column: np.ndarray) -> np.ndarray:
    """Inverse of `as_bytes`."""
    data = np.ascontiguousarray(column, f"S{SIGNATURE}")
    return data.view("<u2").reshape(len(data), PERMUTATIONS + 1)


def connected_components(groups: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components: the smallest member of each item's component, int64 [groups].

    Arguments:
        groups: number of items.
        pairs: int64 [p, 2].

    >>> connected_components(5, np.array([[0, 3], [3, 4]])).tolist()
    [0, 1, 2, 0, 0]
    """
    from scipy.sparse import coo_array, csgraph

    edges = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(groups, groups))
    _, label = csgraph.connected_components(edges, directed=False)
    _, smallest = np.unique(label, return_index=True)
    return np.asarray(smallest[label])


def merge_pairs(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate pairs, int64 [p, 2]: smaller index first, unique, sorted."""
    if not parts:
        return np.zeros((0, 2), np.int64)
    pairs = np.concatenate(parts)
    pairs.sort(axis=1)
    return np.unique(pairs, axis=0) if len(pairs) else pairs.reshape(0, 2)
