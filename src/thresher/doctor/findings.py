"""Findings by kind while a pool is looked at, and what comes of them: the diagnosis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from thresher.doctor.kinds import KINDS, SEVERITIES, about
from thresher.pools import Pool

EXAMPLES = 3


@dataclass(frozen=True)
class Example:
    row: int  # in the pool, from 0
    id: str  # JSON text
    detail: str  # what exactly, e.g. the image path and why it failed; may be ""


@dataclass(frozen=True)
class Finding:
    kind: str  # a key of KINDS, or the kind of a problem that a format of its own has
    severity: str  # "error" | "warning" | "info"
    rows: int  # rows of the pool that are concerned
    images: int  # different image paths that are concerned; 0 where the finding is not about images
    what: str
    action: str  # what a run does about it
    examples: tuple[Example, ...]  # up to three, first rows first


@dataclass(frozen=True)
class Diagnosis:
    """Everything found. `findings`: errors first, then warnings, then what is merely good to
    know."""

    path: str
    rows: int
    images: int  # different image paths
    findings: tuple[Finding, ...]
    lost: int  # rows that a run with a model would lose: those with at least one error
    notes: tuple[str, ...] = ()  # what was not looked for, and why

    @property
    def fails(self) -> bool:
        """True where a run with a model would lose rows."""
        return self.lost > 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fails": self.fails}


class Findings:
    """Collects rows by kind; `rows[kind]`: int64, unique. `images`: kind -> different images."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.rows: dict[str, np.ndarray] = {}
        self.images: dict[str, int] = {}
        self.detail: dict[str, Callable[[int], str]] = {}
        self.notes: list[str] = []
        self.bad_images: dict[str, str] = {}  # path -> kind of the error

    def add(
        self,
        kind: str,
        rows: np.ndarray,
        detail: Callable[[int], str] | None = None,
        images: int = 0,
    ) -> None:
        """`rows`: may repeat. `detail(row)` is asked for the examples only. A kind that comes again
        is added to."""
        if len(rows) == 0:
            return
        unique = np.unique(np.asarray(rows, np.int64))
        before, tell = self.rows.get(kind), self.detail.get(kind)
        self.rows[kind] = unique if before is None else np.union1d(before, unique)
        self.images[kind] = self.images.get(kind, 0) + images
        if detail is not None:
            known = detail if tell is None or before is None else _either(detail, unique, tell)
            self.detail[kind] = known

    @property
    def lost(self) -> np.ndarray:
        """bool [n]: rows with at least one error."""
        out = np.zeros(len(self.pool), np.bool_)
        for kind, rows in self.rows.items():
            if about(kind)[0] == "error":
                out[rows] = True
        return out

    def diagnosis(self) -> Diagnosis:
        known = list(KINDS)
        place = {k: known.index(k) if k in KINDS else -1 for k in self.rows}
        kinds = sorted(self.rows, key=lambda k: (SEVERITIES.index(about(k)[0]), place[k], k))
        return Diagnosis(
            path=str(self.pool.path),
            rows=len(self.pool),
            images=len(self.pool.index.image_path),
            findings=tuple(self._finding(k) for k in kinds),
            lost=int(self.lost.sum()),
            notes=tuple(self.notes),
        )

    def _finding(self, kind: str) -> Finding:
        severity, what, action = about(kind)
        rows, tell = self.rows[kind], self.detail.get(kind)
        first = rows[:EXAMPLES].tolist()
        examples = tuple(
            Example(r, i, tell(r) if tell else "")
            for r, i in zip(first, self.pool.ids(first), strict=True)
        )
        return Finding(kind, severity, len(rows), self.images[kind], what, action, examples)


def _either(
    first: Callable[[int], str], rows: np.ndarray, other: Callable[[int], str]
) -> Callable[[int], str]:
    """Details of two sources: `first` of its own `rows`."""
    mine = frozenset(rows.tolist())
    return lambda row: first(row) if row in mine else other(row)
