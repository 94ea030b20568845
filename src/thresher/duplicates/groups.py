"""Groups of duplicate rows in one pool, from stored signatures. Pure numpy.

    exact   the same normalised conversation, and images with the same pixels
    near    similar questions and answers (MinHash) in the same order of roles, and images that are
            similar one by one (perceptual hashes)

Near is transitive: a ~ b and b ~ c put a and c in one group.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.duplicates import image, text
from thresher.duplicates.candidates import hash_rows
from thresher.duplicates.near import THRESHOLD, near_images, near_texts

Values = Mapping[str, np.ndarray]


def exact_groups(texts: Values, images: Values) -> np.ndarray:
    """Group labels, int64 [m], equal for exact duplicates.

    Arguments:
        texts, images: fields of `TextMinhash` and `ImageHash`, or twice those of `ExactHash`, [m]
            each.
    """
    m = len(texts["exact"])
    table = np.hstack(
        [
            np.ascontiguousarray(texts["exact"], "S16").view(np.uint8).reshape(m, 16),
            np.ascontiguousarray(images["content"], "S16").view(np.uint8).reshape(m, 16),
            np.ascontiguousarray(images["images"], "<i4").view(np.uint8).reshape(m, 4),
        ]
    )
    return _labels(hash_rows(table))


def near_groups(texts: Values, images: Values, threshold: float = THRESHOLD) -> np.ndarray:
    """Group labels, int64 [m], equal for near duplicates, including exact ones.

    Arguments:
        texts: fields of `TextMinhash`, [m] each.
        images: fields of `ImageHash`, [m] each.
        threshold: minimum similarity of the texts, 0..1.
    """
    questions, answers = text.from_bytes(texts["question"]), text.from_bytes(texts["answer"])
    text_hash = hash_rows(questions) ^ (hash_rows(answers) * np.uint64(0x9E3779B97F4A7C15))
    _, first, text_of = np.unique(text_hash, return_index=True, return_inverse=True)
    text_label = text.connected_components(
        len(first), near_texts(questions[first], answers[first], threshold=threshold)
    )[text_of.reshape(-1)]
    roles = np.ascontiguousarray(texts["roles"], "S8").view("<u8")
    key = np.stack([text_label.astype(np.uint64), roles, _image_labels(images)], axis=1)
    return _labels(hash_rows(key))


def _image_labels(images: Values) -> np.ndarray:
    """uint64 [m], equal for rows whose images are similar one by one."""
    count = np.asarray(images["images"])
    rows = np.flatnonzero(count > 0)
    width = image.PERCEPTUAL.itemsize
    marks = [
        np.ascontiguousarray(images["first"][rows], f"S{width}").view(image.PERCEPTUAL).reshape(-1)
    ]
    several = np.flatnonzero(count > 1)
    further = [
        np.frombuffer(bytes.fromhex(images["others"][r]), image.PERCEPTUAL)
        for r in several.tolist()
    ]
    all_marks = np.concatenate(marks + further)
    if not len(all_marks):
        return np.zeros(len(count), np.uint64)
    _, first, inverse = np.unique(
        hash_rows(all_marks.view(np.uint8).reshape(len(all_marks), width)),
        return_index=True,
        return_inverse=True,
    )
    label = text.connected_components(len(first), near_images(all_marks[first]))[
        inverse.reshape(-1)
    ]
    out = np.zeros(len(count), np.uint64)
    out[rows] = label[: len(rows)].astype(np.uint64) + np.uint64(1)
    offset = len(rows)
    for r, more in zip(several.tolist(), further, strict=True):
        labels = np.concatenate([[out[r]], label[offset : offset + len(more)].astype(np.uint64)])
        out[r] = hash_rows(labels[None])[0]
        offset += len(more)
    return out


def _labels(keys: np.ndarray) -> np.ndarray:
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
