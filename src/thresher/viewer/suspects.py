"""Rows that are likely wrong, as the page filters and orders them: from stored columns only.

They are looked for when a page first asks for them, and again as long as they are not all there, so
that `thresher suspects` in another terminal takes effect when the page is loaded again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from thresher.doctor.stored_suspects import StoredSuspects
from thresher.doctor.suspects import Suspect

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_SKILLS = 200  # in the list to filter by
SORT = "suspicion"  # the most likely wrong first


class SuspectSource:
    """Suspects of one pool, kept in memory once they are found."""

    def __init__(self, look: Callable[[], StoredSuspects | None]) -> None:
        """`look`: reads the store."""
        self._look = look
        self._found: StoredSuspects | None = None
        self._lock = threading.Lock()

    def get(self) -> StoredSuspects | None:
        """None if no model's columns are stored. Raises StoreError."""
        with self._lock:
            if self._found is None:
                self._found = self._look()
            return self._found

    def renew(self) -> None:
        """Look again at the next `get`: a page was loaded, and the store may hold more now."""
        with self._lock:
            self._found = None


def fitting(found: StoredSuspects, skill: str) -> np.ndarray:
    """bool [pool rows]: suspected, and of a skill.

    Arguments:
        found: the suspects.
        skill: number of the skill as text; "": of any.
    """
    fits = found.suspected
    if skill.isdecimal():
        fits = fits & (np.asarray(found.columns["skills"]["leaf"]) == int(skill))
    out = np.zeros(len(found.pool), bool)
    out[found.rows[fits]] = True
    return out


def ordered(found: StoredSuspects) -> np.ndarray:
    """All pool rows, int64 [n], the most likely wrong first; rows that are not judged last."""
    rest = np.flatnonzero(found.place < 0)
    return np.concatenate([found.rows[found.order], rest])


def skills(found: StoredSuspects) -> list[tuple[str, str]]:
    """(number, words) of the skills that hold suspected rows, those with the most first."""
    columns = found.columns["skills"]
    leaf = np.asarray(columns["leaf"])
    sizes, suspected = np.bincount(leaf), np.bincount(leaf[found.suspected], minlength=1)
    _, first = np.unique(leaf, return_index=True)
    words = {int(leaf[i]): str(columns["words"][i]) for i in first.tolist()}
    numbers = np.flatnonzero(suspected)
    most = numbers[np.argsort(-suspected[numbers], kind="stable")][:MOST_SKILLS]
    return [
        (str(n), f"{words[n] or f'skill {n}'} ({suspected[n]:,} of {sizes[n]:,})")
        for n in most.tolist()
    ]


def suspects_by_row(found: StoredSuspects, rows: np.ndarray) -> dict[int, Suspect]:
    """Pool row -> what is known of it, of those rows that are judged.

    Arguments:
        found: the suspects.
        rows: int64 [m], pool rows.
    """
    at = found.place[rows]
    return {s.row: s for s in found.suspects(at[at >= 0])}
