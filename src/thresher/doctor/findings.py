"""Collects findings by kind and summarises them as a diagnosis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from thresher.doctor.kinds import KINDS, SEVERITIES, describe_kind
from thresher.pools import Pool
from thresher.request.spelling import as_flag
from thresher.types import Note

EXAMPLES = 3


@dataclass(frozen=True)
class Example:
    row: int  # in the pool, from 0
    id: str  # JSON text
    detail: str  # what exactly, e.g. the image path and why it failed; may be ""


@dataclass(frozen=True)
class Finding:
    kind: str  # a key of KINDS, or a problem kind of a format
    severity: str  # "error" | "warning" | "info"
    rows: int  # affected rows of the pool
    images: int  # affected distinct image paths; 0 if the finding is not about images
    what: str
    action: str  # what a run does about it
    examples: tuple[Example, ...]  # up to three, first rows first


@dataclass(frozen=True)
class Diagnosis:
    """All findings: errors first, then warnings, then information."""

    path: str
    rows: int
    images: int  # distinct image paths
    findings: tuple[Finding, ...]
    lost: int  # rows that a run with a model would lose: those with at least one error
    notes: tuple[Note, ...] = ()  # what was not checked, and why

    @property
    def fails(self) -> bool:
        """Whether a run with a model would lose rows."""
        return self.lost > 0

    def to_json(self) -> dict[str, Any]:
        notes = [note.spelled(as_flag) for note in self.notes]
        return {**asdict(self), "notes": notes, "fails": self.fails}


class Findings:
    """Collects rows by kind; `rows[kind]`: int64, unique. `images`: kind -> number of distinct
    images.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.rows: dict[str, np.ndarray] = {}
        self.images: dict[str, int] = {}
        self.detail: dict[str, Callable[[int], str]] = {}
        self.notes: list[Note] = []
        self.bad_images: dict[str, str] = {}  # path -> kind of the error
        self.bad_videos: dict[int, str] = {}  # row -> why its videos cannot be used

    def add(
        self,
        kind: str,
        rows: np.ndarray,
        detail: Callable[[int], str] | None = None,
        images: int = 0,
    ) -> None:
        """Add rows to a kind of finding.

        Arguments:
            kind: a key of KINDS, or a problem kind of a format.
            rows: int [r], pool rows; may repeat.
            detail: a row -> its detail; called for examples only.
            images: distinct images concerned.
        """
        if len(rows) == 0:
            return
        unique = np.unique(np.asarray(rows, np.int64))
        previous_rows, previous_detail = self.rows.get(kind), self.detail.get(kind)
        self.rows[kind] = unique if previous_rows is None else np.union1d(previous_rows, unique)
        self.images[kind] = self.images.get(kind, 0) + images
        if detail is not None:
            combined = (
                detail
                if previous_detail is None or previous_rows is None
                else _combine_details(detail, unique, previous_detail)
            )
            self.detail[kind] = combined

    def note(self, text: str) -> None:
        """Add a note. `text` may refer to options (`errors.opt`)."""
        self.notes.append(Note("doctor", text))

    @property
    def lost(self) -> np.ndarray:
        """bool [n]: rows with at least one error."""
        out = np.zeros(len(self.pool), np.bool_)
        for kind, rows in self.rows.items():
            if describe_kind(kind)[0] == "error":
                out[rows] = True
        return out

    def diagnosis(self) -> Diagnosis:
        kind_order = list(KINDS)
        order = {k: kind_order.index(k) if k in KINDS else -1 for k in self.rows}
        kinds = sorted(
            self.rows, key=lambda k: (SEVERITIES.index(describe_kind(k)[0]), order[k], k)
        )
        return Diagnosis(
            path=str(self.pool.path),
            rows=len(self.pool),
            images=len(self.pool.index.image_path),
            findings=tuple(self._finding(k) for k in kinds),
            lost=int(self.lost.sum()),
            notes=tuple(self.notes),
        )

    def _finding(self, kind: str) -> Finding:
        severity, description, action = describe_kind(kind)
        rows, detail = self.rows[kind], self.detail.get(kind)
        first = rows[:EXAMPLES].tolist()
        examples = tuple(
            Example(r, i, detail(r) if detail else "")
            for r, i in zip(first, self.pool.ids(first), strict=True)
        )
        return Finding(kind, severity, len(rows), self.images[kind], description, action, examples)


def _combine_details(
    first: Callable[[int], str], rows: np.ndarray, other: Callable[[int], str]
) -> Callable[[int], str]:
    """Details from two sources: `first` for its own `rows`."""
    own_rows = frozenset(rows.tolist())
    return lambda row: first(row) if row in own_rows else other(row)
