"""Which rows of one pool say the same: a label a row, from the stored signals. Pure numpy.

    exact   the same normal form of the conversation, and pictures of the same pixels
    near    questions alike and answers alike (MinHash), said in the same order, and pictures alike one by one (perceptual)

Near is closed over chains: a ~ b and b ~ c put a and c together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.duplicates import image, text
from thresher.duplicates.candidates import hashed
from thresher.duplicates.near import THRESHOLD, near_images, near_texts

Values = Mapping[str, np.ndarray]


def exact_groups(texts: Values, images: Values) -> np.ndarray:
    """int64 [m]: equal for exact duplicates. `texts`, `images`: fields of `TextMinhash` and `ImageHash`, or twice those of
    `ExactHash`, [m] each."""
    m = len(texts["exact"])
    table = np.hstack(
        [
            np.ascontiguousarray(texts["exact"], "S16").view(np.uint8).reshape(m, 16),
            np.ascontiguousarray(images["content"], "S16").view(np.uint8).reshape(m, 16),
            np.ascontiguousarray(images["images"], "<i4").view(np.uint8).reshape(m, 4),
        ]
    )
    return _labels(hashed(table))


def near_groups(texts: Values, images: Values, threshold: float = THRESHOLD) -> np.ndarray:
    """int64 [m]: equal for near duplicates, exact ones among them. As `exact_groups`; `threshold`: of the texts' similarity."""
    asked, answered = text.from_bytes(texts["question"]), text.from_bytes(texts["answer"])
    whole = hashed(asked) ^ (hashed(answered) * np.uint64(0x9E3779B97F4A7C15))
    _, first, text_of = np.unique(whole, return_index=True, return_inverse=True)
    text_label = text.union(len(first), near_texts(asked[first], answered[first], threshold=threshold))[
        text_of.reshape(-1)
    ]
    roles = np.ascontiguousarray(texts["roles"], "S8").view("<u8")
    key = np.stack([text_label.astype(np.uint64), roles, _pictures(images)], axis=1)
    return _labels(hashed(key))


def _pictures(images: Values) -> np.ndarray:
    """uint64 [m]: equal for rows whose pictures are alike one by one."""
    count = np.asarray(images["images"])
    rows = np.flatnonzero(count > 0)
    width = image.MARK.itemsize
    marks = [np.ascontiguousarray(images["first"][rows], f"S{width}").view(image.MARK).reshape(-1)]
    several = np.flatnonzero(count > 1)
    further = [np.frombuffer(bytes.fromhex(images["others"][r]), image.MARK) for r in several.tolist()]
    every = np.concatenate(marks + further)
    if not len(every):
        return np.zeros(len(count), np.uint64)
    _, first, of = np.unique(
        hashed(every.view(np.uint8).reshape(len(every), width)), return_index=True, return_inverse=True
    )
    label = text.union(len(first), near_images(every[first]))[of.reshape(-1)]
    out = np.zeros(len(count), np.uint64)
    out[rows] = label[: len(rows)].astype(np.uint64) + np.uint64(1)
    at = len(rows)
    for r, more in zip(several.tolist(), further, strict=True):
        labels = np.concatenate([[out[r]], label[at : at + len(more)].astype(np.uint64)])
        out[r] = hashed(labels[None])[0]
        at += len(more)
    return out


def _labels(keys: np.ndarray) -> np.ndarray:
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
