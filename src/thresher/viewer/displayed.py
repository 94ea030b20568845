"""A selection as it is displayed: a snapshot that later changes do not affect. What is expensive is
computed on first use.

Reads the pool. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.methods.settings import as_text
from thresher.report.columns import constant, is_number, meaning
from thresher.report.folder import LoadedSelection, sampling_keys
from thresher.report.words import Explain, explainer
from thresher.request.spelling import as_flag

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.pools import Pool
    from thresher.selection.result import Outcome

LEFT_OUT, DROPPED, KEPT, FAILED = 0, 1, 2, 3  # what became of a row
KINDS_FROM = 400  # rows of each side whose reasons are looked at for the list of reasons


@dataclass(frozen=True)
class SelectionParams:
    """A requested selection, as text: the values of the command line's options."""

    method: str
    settings: Mapping[str, str]
    budget: str
    seed: int

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> SelectionParams:
        """The request that a run.yaml records."""
        method = run["method"]
        settings = {name: as_text(value) for name, value in (method.get("settings") or {}).items()}
        return cls(str(method["name"]), settings, str(run["config"]["budget"]), int(method["seed"]))


class DisplayedSelection:
    """A selection of `pool`. Arrays [n] are in pool order and not to be written to.

    Arguments:
        number: grows with every change.
        params: what was requested.
        keep, drop: bool [n], pinned and banned rows.
        run: run.yaml of the opened selection.
        folder: of the opened selection.
        made: the selection as a folder holds it.
        outcome: the selection as it was made in memory; this or `made` must be given.
        pool: of n rows.
        seconds: duration of the selection.
    """

    def __init__(
        self,
        number: int,
        params: SelectionParams,
        keep: np.ndarray,
        drop: np.ndarray,
        run: Mapping[str, Any],
        folder: Path,
        *,
        made: LoadedSelection | None = None,
        outcome: Outcome | None = None,
        pool: Pool,
        seconds: float = 0.0,
    ) -> None:
        assert made is not None or outcome is not None
        self.number, self.params, self.keep, self.drop, self.seconds = (
            number,
            params,
            keep,
            drop,
            seconds,
        )
        self.pool, self.outcome = pool, outcome
        self._run, self._folder, self._made = run, folder, made
        self._explain: Explain | None = None
        self._kinds: tuple[str, ...] | None = None
        self._lock = threading.RLock()
        failed = (
            outcome.failures if outcome is not None else made.failures if made is not None else []
        )
        self.failed = {f.row: f.error for f in failed}
        self.state = np.full(len(pool), LEFT_OUT, np.int8)
        if outcome is not None:
            self.state[outcome.considered] = DROPPED
            self.state[outcome.rows] = KEPT
        elif made is not None:
            self.state[made.rows] = np.where(made.kept, KEPT, DROPPED)
        self.state[list(self.failed)] = FAILED
        self.kept = int((self.state == KEPT).sum())

    @property
    def notes(self) -> list[str]:
        """Their texts."""
        made = self.outcome or self._made
        return [] if made is None else [note.spelled(as_flag) for note in made.notes]

    @property
    def made(self) -> LoadedSelection:
        """As a report reads it."""
        with self._lock:
            if self._made is None:
                self._made = self._as_loaded()
            return self._made

    def _as_loaded(self) -> LoadedSelection:
        outcome = self.outcome
        assert outcome is not None
        order = np.argsort(outcome.considered)
        rows = outcome.considered[order]
        rank = np.full(len(self.pool), -1, np.int64)
        rank[outcome.rows] = np.arange(len(outcome.rows))
        settings = {
            name: "none" if value is None else value
            for name, value in outcome.recipe.settings.items()
        }
        changes: dict[str, Any] = {
            "method": {"name": self.params.method, "seed": self.params.seed, "settings": settings},
            "notes": [note.spelled(as_flag) for note in outcome.notes],
            "note_kinds": [note.kind for note in outcome.notes],
            "config": {**self._run["config"], "budget": self.params.budget},
        }
        if outcome.findings is not None:
            changes["findings"] = outcome.findings.summary
        reasons = {name: np.asarray(values)[order] for name, values in outcome.evidence.items()}
        keys = sampling_keys(self.pool, self.params.seed)
        run = {**self._run, **changes}
        return LoadedSelection(
            self._folder, run, self.pool, rows, rank[rows], reasons, outcome.failures, keys
        )

    @property
    def explain(self) -> Explain:
        """Why a row was kept or not, by its place in `made.rows`."""
        with self._lock:
            if self._explain is None:
                self._explain = explainer(self.made)
            return self._explain

    def place(self, rows: np.ndarray) -> np.ndarray:
        """Place of each pool row in `made.rows`, int64; -1 where the method did not see it."""
        seen = self.made.rows
        at = np.minimum(np.searchsorted(seen, rows), max(len(seen) - 1, 0))
        return (
            np.where(len(seen) > 0 and seen[at] == rows, at, -1)
            if len(seen)
            else np.full(len(rows), -1)
        )

    @property
    def sortable(self) -> list[tuple[str, str]]:
        """(name, title) of every number that rows can be ordered by."""
        made = self.made
        return [
            (name, meaning(name, made.settings).brief)
            for name, values in made.reasons.items()
            if is_number(values) and not constant(values)
        ]

    def order(self, sort: str) -> np.ndarray:
        """All pool rows, int64 [n]: "" as in the file, "rank" best first and then the others, a
        reason's name smallest first, -name largest first; rows without the number last. Unknown
        names: as in the file.
        """
        n = len(self.pool)
        made, name = self.made, sort.removeprefix("-")
        if sort == "rank":
            rows = made.kept_rows
            return np.concatenate([rows, np.flatnonzero(self.state != KEPT)])
        if name in made.reasons and is_number(made.reasons[name]):
            values = np.full(n, np.nan)
            values[made.rows] = made.reasons[name]
            return np.argsort(-values if sort.startswith("-") else values, kind="stable")
        return np.arange(n)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of reasons that occur in a sample of the rows."""
        with self._lock:
            if self._kinds is None:
                made = self.made
                found: dict[str, None] = {}
                for side in (np.flatnonzero(made.kept), np.flatnonzero(~made.kept)):
                    step = max(len(side) // KINDS_FROM, 1)
                    found.update({self.explain(i).kind: None for i in side[::step].tolist()})
                self._kinds = tuple(sorted(found))
            return self._kinds
