"""Semantic duplicates: each row is assigned to the first earlier row similar to it. Pure numpy.

Two rows are similar if they have the same form (images, roles, words of short answers) and the
cosines of their images, of their questions and of their answers all reach the threshold: a common
question must not hide a different image or answer. Each part's mean over the pool is subtracted
first, because the states of a language model share a large common direction, which would make
everything similar (Mu and Viswanath, ICLR 2018).

Not transitive: a row is compared with rows that are kept, so a dropped row is as close to its
representative as the threshold says (as in SemDeDup, Abbas et al. 2023). Up to `ALL_PAIRS` rows of
one form, every pair of a row and a kept row is compared; above, a row is compared with the kept
rows of the nearest cells (`cells`), which misses some pairs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.duplicates.cells import first_kept_in_cells
from thresher.duplicates.cosines import first_similar, similar
from thresher.duplicates.embedding import PARTS
from thresher.signals.vectors import from_bytes

THRESHOLD = 0.95  # of the smallest of the three cosines
ALL_PAIRS = 1 << 16  # rows of one form, up to which all pairs are compared
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
        given = _telling(parts, members)
        search = _first_kept if len(members) <= ALL_PAIRS else first_kept_in_cells
        out[members] = members[search(given, members, threshold)]
    return out


def _telling(parts: list[np.ndarray], members: np.ndarray) -> list[np.ndarray]:
    """The parts that some of `members` have; the others are the same for all of them."""
    given = [p for p in parts if not p[members, -1].all()]
    return given or parts[:1]


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


def _first_kept(parts: list[np.ndarray], members: np.ndarray, threshold: float) -> np.ndarray:
    """Index among `members` of the first kept row similar to each, int64 [k]; its own if there is
    none. Compares each row with all kept ones.
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
            first = first_similar(
                [p[rows] for p in ours], [p[members[leaders]] for p in parts], threshold
            )
            matched = first >= 0
            out[block[rows[matched]]] = leaders[first[matched]]
            open_rows[rows[matched]] = False
        rows = np.flatnonzero(open_rows)
        is_near = similar([p[rows] for p in ours], [p[rows] for p in ours], threshold)
        new: list[int] = []
        for i in range(len(rows)):
            found = np.flatnonzero(is_near[i, new]) if new else np.zeros(0, np.int64)
            if len(found):
                out[block[rows[i]]] = block[rows[new[found[0]]]]
            else:
                new.append(i)
        leaders_so_far = np.concatenate([leaders_so_far, block[rows[new]]])
    return out
