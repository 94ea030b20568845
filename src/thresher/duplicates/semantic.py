"""Semantic duplicates: each row is assigned to the first earlier row similar to it. Pure numpy.

Two rows are similar if they have the same form (images, roles, words of short answers) and the
cosines of their images, of their questions and of their answers all reach the threshold: a common
question must not hide a different image or answer. Each part's mean over the pool is subtracted
first, because the states of a language model share a large common direction, which would make
everything similar (Mu and Viswanath, ICLR 2018).

Not transitive: a row is compared with rows that are kept, so a dropped row is as close to its
representative as the threshold says (as in SemDeDup, Abbas et al. 2023, without its clusters).
Every pair of a row and a kept row is compared; blocks bound the memory, not what is found.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.duplicates.embedding import PARTS
from thresher.signals.vectors import from_bytes

THRESHOLD = 0.95  # of the smallest of the three cosines
ROWS, LEADERS = 1024, 8192  # compared at once
_MIN_LENGTH = 1e-3  # centred vectors shorter than this are rounding errors


def semantic_groups(
    values: Mapping[str, np.ndarray], order: np.ndarray, threshold: float = THRESHOLD
) -> np.ndarray:
    """The representative of each row, int64 [m]; the row itself if it has none.

    Arguments:
        values: fields of `RowEmbedding`, [m] each.
        order: int64 [m], a permutation of the rows: earlier ones are kept.
        threshold: minimum of the three cosines.
    """
    parts = [centred(from_bytes(values[name])) for name in PARTS]
    out = np.arange(len(order))
    forms = np.ascontiguousarray(values["form"][order], "S8").view("<u8")
    for form in np.unique(forms):
        members = order[forms == form]
        out[members] = members[_first_similar(parts, members, threshold)]
    return out


def centred(vectors: np.ndarray) -> np.ndarray:
    """Centred unit vectors, float16 [m, w + 1]: the mean over rows that have the part is
    subtracted.

    Rows without the part, or at the mean, have only the last coordinate set: they are similar to
    each other.
    """
    given = vectors.astype(np.float32)
    present = np.abs(given).max(axis=1, initial=0) > 0
    mean = (
        given[present].mean(axis=0, dtype=np.float64) if present.any() else np.zeros(given.shape[1])
    )
    given[present] -= mean.astype(np.float32)
    length = np.linalg.norm(given, axis=1)
    blank = ~present | (length < _MIN_LENGTH)
    given[~blank] /= length[~blank, None]
    given[blank] = 0
    return np.hstack([given, blank[:, None].astype(np.float32)]).astype(np.float16)


def _first_similar(parts: list[np.ndarray], members: np.ndarray, threshold: float) -> np.ndarray:
    """Index among `members` of the first kept row similar to each, int64 [k]; its own if there is
    none.
    """
    k = len(members)
    out = np.arange(k)
    leaders_so_far = np.zeros(0, np.int64)  # indices of members
    for start in range(0, k, ROWS):
        block = np.arange(start, min(start + ROWS, k))
        ours = [p[members[block]].astype(np.float32) for p in parts]
        open_rows = np.ones(len(block), bool)
        for offset in range(0, len(leaders_so_far), LEADERS):
            leaders = leaders_so_far[offset : offset + LEADERS]
            rows = np.flatnonzero(open_rows)
            if not len(rows):
                break
            first = _first(
                [p[rows] for p in ours],
                [p[members[leaders]].astype(np.float32) for p in parts],
                threshold,
            )
            matched = first >= 0
            out[block[rows[matched]]] = leaders[first[matched]]
            open_rows[rows[matched]] = False
        rows = np.flatnonzero(open_rows)
        is_near = _similar([p[rows] for p in ours], [p[rows] for p in ours], threshold)
        new: list[int] = []
        for i in range(len(rows)):
            found = np.flatnonzero(is_near[i, new]) if new else np.zeros(0, np.int64)
            if len(found):
                out[block[rows[i]]] = block[rows[new[found[0]]]]
            else:
                new.append(i)
        leaders_so_far = np.concatenate([leaders_so_far, block[rows[new]]])
    return out


def _similar(a: list[np.ndarray], b: list[np.ndarray], threshold: float) -> np.ndarray:
    """bool [rows of a, rows of b]: all parts reach the threshold."""
    near = np.ones((len(a[0]), len(b[0])), bool)
    for ours, theirs in zip(a, b, strict=True):
        near &= ours @ theirs.T >= threshold
    return near


def _first(a: list[np.ndarray], b: list[np.ndarray], threshold: float) -> np.ndarray:
    """The first row of b similar to each row of a, int64; -1 if there is none.

    Later parts are compared only for pairs that earlier ones leave.
    """
    rows, columns = np.arange(len(a[0])), np.arange(len(b[0]))
    near = np.ones((len(rows), len(columns)), bool)
    for ours, theirs in zip(a, b, strict=True):
        near &= ours[rows] @ theirs[columns].T >= threshold
        left, right = near.any(axis=1), near.any(axis=0)
        near, rows, columns = near[left][:, right], rows[left], columns[right]
        if not len(rows):
            break
    out = np.full(len(a[0]), -1)
    out[rows] = columns[near.argmax(axis=1)] if len(rows) else 0
    return out
