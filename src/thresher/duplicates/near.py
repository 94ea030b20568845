"""Near texts and near pictures: candidates by bands of their signatures, decided on the signatures themselves. Pure numpy.

Bands: 25 of 5 hashes, so a pair at a similarity of 0.7 shares one with probability 0.99, one of 0.8 with 0.9999, one of 0.5
with 0.55 and is then turned down by the signatures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from thresher.duplicates import image, text
from thresher.duplicates.candidates import hashed, pairs

THRESHOLD = 0.8  # estimated Jaccard similarity of word shingles from which two texts are near duplicates
BANDS, HASHES = 25, 5
MAX_BITS = 12  # of 64: perceptual hashes further apart than this in both kinds are not compared


def near_texts(*parts: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Pairs int64 [p, 2] of items all of whose parts are alike. `parts`: signatures [n, PERMUTATIONS + 1] each.

    A question and its answer are two parts: a long question in common must not hide another answer.
    """

    def bands() -> Iterator[np.ndarray]:
        for b in range(BANDS):
            at = slice(b * HASHES, (b + 1) * HASHES)
            yield hashed(np.hstack([part[:, at] for part in parts]))

    def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        good = np.ones(len(a), bool)
        for part in parts:
            good[good] = text.similarity(part[a[good]], part[b[good]]) >= threshold
        return good

    # the first permutations as one number: texts with the same smallest hashes stand together
    order = hashed(np.hstack([part[:, :1] for part in parts]))
    return pairs(bands(), order, same)


def near_images(marks: np.ndarray) -> np.ndarray:
    """Pairs int64 [p, 2] of pictures that are alike. `marks`: image.MARK [n]."""
    phash, dhash = marks["phash"], marks["dhash"]

    def bands() -> Iterator[np.ndarray]:
        for values in (phash, dhash):
            for b in range(4):
                yield (values >> np.uint64(16 * b)) & np.uint64(0xFFFF)
        yield coarse(marks["thumbnail"], 0)
        yield coarse(marks["thumbnail"], 16)

    def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        near = np.minimum(np.bitwise_count(phash[a] ^ phash[b]), np.bitwise_count(dhash[a] ^ dhash[b])) <= MAX_BITS
        near[near] = image.alike(marks[a[near]], marks[b[near]])
        return near

    return pairs(bands(), _brightness(marks["thumbnail"]), same)


def coarse(thumbnail: np.ndarray, shift: int) -> np.ndarray:
    """uint64 [n]: the thumbnail's four quarters in 32 steps of each colour. Flat pictures, whose hashes are noise, meet here."""
    n = len(thumbnail)
    half = image.SIDE // 2
    quarters = thumbnail.reshape(n, 2, half, 2, half, 3).mean(axis=(2, 4)).reshape(n, 12)
    return hashed(((quarters + shift) // 32).astype(np.uint8))


def _brightness(thumbnail: np.ndarray) -> np.ndarray:
    """uint64 [n]: mean red, green and blue, each as 8 bits, the most telling bits first."""
    mean = thumbnail.reshape(len(thumbnail), -1, 3).mean(axis=1) if len(thumbnail) else np.zeros((0, 3))
    fine = (mean * 4).astype(np.uint64)
    return (fine[:, 1] << np.uint64(40)) | (fine[:, 0] << np.uint64(20)) | fine[:, 2]
