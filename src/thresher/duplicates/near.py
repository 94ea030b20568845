"""Near-duplicate texts and images: candidates by bands, decided on whole signatures. Pure numpy.

25 bands of 5 hashes: a pair with similarity 0.7 shares a band with probability 0.99, one with 0.8
with 0.9999; one with 0.5 does with 0.55 and is then rejected by the signatures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from thresher.duplicates import image, text
from thresher.duplicates.candidates import candidate_pairs, hash_rows

THRESHOLD = 0.8  # minimum estimated Jaccard similarity of word shingles
BANDS, HASHES = 25, 5
MAX_BITS = 12  # of 64: images further apart in both hashes are not compared


def near_texts(*parts: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Pairs int64 [p, 2] of items whose parts are all similar.

    A question and its answer are two parts: a long common question must not hide a different
    answer.

    Arguments:
        parts: signatures [n, PERMUTATIONS + 1] each.
        threshold: minimum similarity, 0..1.
    """

    def bands() -> Iterator[np.ndarray]:
        for b in range(BANDS):
            band = slice(b * HASHES, (b + 1) * HASHES)
            yield hash_rows(np.hstack([part[:, band] for part in parts]))

    def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        good = np.ones(len(a), bool)
        for part in parts:
            good[good] = text.similarity(part[a[good]], part[b[good]]) >= threshold
        return good

    # the first permutations as one number: groups texts with equal smallest hashes
    order = hash_rows(np.hstack([part[:, :1] for part in parts]))
    return candidate_pairs(bands(), order, same)


def near_images(marks: np.ndarray) -> np.ndarray:
    """Pairs int64 [p, 2] of similar images. `marks`: image.PERCEPTUAL [n]."""
    phash, dhash = marks["phash"], marks["dhash"]

    def bands() -> Iterator[np.ndarray]:
        for values in (phash, dhash):
            for b in range(4):
                yield (values >> np.uint64(16 * b)) & np.uint64(0xFFFF)
        yield coarse(marks["thumbnail"], 0)
        yield coarse(marks["thumbnail"], 16)

    def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        is_similar = (
            np.minimum(np.bitwise_count(phash[a] ^ phash[b]), np.bitwise_count(dhash[a] ^ dhash[b]))
            <= MAX_BITS
        )
        is_similar[is_similar] = image.are_similar(marks[a[is_similar]], marks[b[is_similar]])
        return is_similar

    return candidate_pairs(bands(), _brightness(marks["thumbnail"]), same)


def coarse(thumbnail: np.ndarray, shift: int) -> np.ndarray:
    """The thumbnail's four quadrants in 32 steps per colour, hashed, uint64 [n].

    Finds pairs of flat images, whose hashes are noise.

    Arguments:
        thumbnail: uint8 [n, SIDE * SIDE * 3], RGB averages.
        shift: added before rounding, so that two values near a boundary agree for some shift.
    """
    n = len(thumbnail)
    half = image.SIDE // 2
    quarters = thumbnail.reshape(n, 2, half, 2, half, 3).mean(axis=(2, 4)).reshape(n, 12)
    return hash_rows(((quarters + shift) // 32).astype(np.uint8))


def _brightness(thumbnail: np.ndarray) -> np.ndarray:
    """Mean red, green and blue, interleaved by significance, uint64 [n]."""
    mean = (
        thumbnail.reshape(len(thumbnail), -1, 3).mean(axis=1)
        if len(thumbnail)
        else np.zeros((0, 3))
    )
    fine = (mean * 4).astype(np.uint64)
    return (fine[:, 1] << np.uint64(40)) | (fine[:, 0] << np.uint64(20)) | fine[:, 2]
