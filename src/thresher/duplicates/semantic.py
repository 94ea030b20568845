"""Which rows mean the same to a model: each row goes to the first row before it that is like it. Pure numpy.

Two rows are alike if they have the same form (pictures, speakers, the words of short answers) and the cosines of their
pictures, of their questions and of their answers all reach the threshold: a question in common must not hide another picture
or another answer. All vectors of a part have the part's mean over the pool taken off first, because the states of a language
model share a large common direction, which would make everything alike (Mu and Viswanath, ICLR 2018).

Not closed over chains: a row is compared with rows that stay, so what is left out is as near to its representative as the
threshold says (as in SemDeDup, Abbas et al. 2023, whose clusters are not needed here). Every pair of a row and a row that
stays is compared; blocks bound the memory, not what is found.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.duplicates.embedding import PARTS, WIDTH, from_bytes

THRESHOLD = 0.95  # of the smallest of the three cosines
ROWS, LEADERS = 1024, 8192  # compared at once
_NOTHING = 1e-3  # length below which a vector with the mean taken off is rounding


def semantic_groups(values: Mapping[str, np.ndarray], order: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """int64 [m]: for each row the row that stands for it, itself where none does. `values`: fields of `RowEmbedding`, [m] each.

    `order`: int64 [m], a permutation of the rows: those that come first stay.
    """
    parts = [centred(from_bytes(values[name])) for name in PARTS]
    out = np.arange(len(order))
    forms = np.ascontiguousarray(values["form"][order], "S8").view("<u8")
    for form in np.unique(forms):
        members = order[forms == form]
        out[members] = members[_first_alike(parts, members, threshold)]
    return out


def centred(vectors: np.ndarray) -> np.ndarray:
    """float16 [m, w + 1] of length 1: the mean of the rows that have the part is taken off.

    Of rows that do not have it, or stand at the mean, only the last coordinate is not 0: such rows are like each other.
    """
    given = vectors.astype(np.float32)
    there = np.abs(given).max(axis=1, initial=0) > 0
    mean = given[there].mean(axis=0, dtype=np.float64) if there.any() else np.zeros(given.shape[1])
    given[there] -= mean.astype(np.float32)
    length = np.linalg.norm(given, axis=1)
    blank = ~there | (length < _NOTHING)
    given[~blank] /= length[~blank, None]
    given[blank] = 0
    return np.hstack([given, blank[:, None].astype(np.float32)]).astype(np.float16)


def _first_alike(parts: list[np.ndarray], members: np.ndarray, threshold: float) -> np.ndarray:
    """int64 [k]: the place among `members` of the first that stays and is like each; its own where there is none."""
    k = len(members)
    out = np.arange(k)
    stay = np.zeros(0, np.int64)  # places
    for start in range(0, k, ROWS):
        block = np.arange(start, min(start + ROWS, k))
        mine = [p[members[block]].astype(np.float32) for p in parts]
        open_rows = np.ones(len(block), bool)
        for at in range(0, len(stay), LEADERS):
            leaders = stay[at : at + LEADERS]
            rows = np.flatnonzero(open_rows)
            if not len(rows):
                break
            first = _first([p[rows] for p in mine], [p[members[leaders]].astype(np.float32) for p in parts], threshold)
            hit = first >= 0
            out[block[rows[hit]]] = leaders[first[hit]]
            open_rows[rows[hit]] = False
        rows = np.flatnonzero(open_rows)
        near = _alike([p[rows] for p in mine], [p[rows] for p in mine], threshold)
        new: list[int] = []
        for i in range(len(rows)):
            found = np.flatnonzero(near[i, new]) if new else np.zeros(0, np.int64)
            if len(found):
                out[block[rows[i]]] = block[rows[new[found[0]]]]
            else:
                new.append(i)
        stay = np.concatenate([stay, block[rows[new]]])
    return out


def _alike(a: list[np.ndarray], b: list[np.ndarray], threshold: float) -> np.ndarray:
    """bool [rows of a, rows of b]."""
    near = np.ones((len(a[0]), len(b[0])), bool)
    for mine, theirs in zip(a, b, strict=True):
        near &= mine @ theirs.T >= threshold
    return near


def _first(a: list[np.ndarray], b: list[np.ndarray], threshold: float) -> np.ndarray:
    """int64 [rows of a]: the first row of b that is like each, -1 where there is none. Later parts are compared only where the
    earlier ones leave a pair."""
    rows, columns = np.arange(len(a[0])), np.arange(len(b[0]))
    near = np.ones((len(rows), len(columns)), bool)
    for mine, theirs in zip(a, b, strict=True):
        near &= mine[rows] @ theirs[columns].T >= threshold
        left, right = near.any(axis=1), near.any(axis=0)
        near, rows, columns = near[left][:, right], rows[left], columns[right]
        if not len(rows):
            break
    out = np.full(len(a[0]), -1)
    out[rows] = columns[near.argmax(axis=1)] if len(rows) else 0
    return out


assert WIDTH % 8 == 0, "signs are drawn eight at a time"
