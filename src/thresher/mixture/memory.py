"""What settling a mixture reads, kept for the next time: files of row names, record fields, filters, copies, prompts' tokens.

`settled_for` asks this object and nothing else, so that a caller who settles the same pool again and again (the viewer) reads
it once. A fresh one remembers nothing yet. Reads what it is asked for; must be used with one pool and one store.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thresher.mixture.columns import PoolColumns
from thresher.mixture.filters import satisfied
from thresher.mixture.listed import listed
from thresher.mixture.spec import Filter
from thresher.mixture.tokens import TokenBudget, TokenCounts

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.duplicates.stage import Representatives
    from thresher.pools import Pool
    from thresher.storage.columns import Store


class Memory:
    """`rows`: file -> bool [n]; what stands there is taken for the rows that the file names, and the file is not read."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}
        self._columns: dict[tuple[str, ...], PoolColumns] = {}
        self._satisfied: dict[str, np.ndarray] = {}
        self._counts: dict[tuple[object, ...], TokenCounts] = {}
        self._copies: dict[tuple[object, ...], Representatives] = {}

    def listed(self, path: str, flag: str, pool: Pool) -> np.ndarray:
        """bool [n]; not to be written to. Raises as `listed.listed`."""
        return self.rows[path] if path in self.rows else listed(path, flag, pool)

    def columns(self, pool: Pool, names: Sequence[str]) -> PoolColumns:
        """Columns by name; the records are read when a field of theirs is asked for."""
        return self._columns.setdefault(tuple(names), PoolColumns(pool, names))

    def satisfied(self, rule: Filter, columns: PoolColumns) -> np.ndarray:
        """bool [n]; not to be written to. Raises as `filters.satisfied`."""
        if rule.text not in self._satisfied:
            self._satisfied[rule.text] = satisfied(rule, columns)
        return self._satisfied[rule.text]

    def counts(self, pool: Pool, budget: TokenBudget, model: ModelHandle | None = None) -> TokenCounts:
        """Tokens of each row as far as its text and the model's processor tell: the caller's own, to be measured."""
        key = (budget.total, None if model is None else model.identity)
        if key not in self._counts:
            self._counts[key] = TokenCounts(pool, budget, model)
        own = copy.copy(self._counts[key])
        own.budget = budget
        return own

    def representatives(
        self,
        pool: Pool,
        how: str,
        within: np.ndarray,
        keep: np.ndarray,
        store: Store,
        *,
        seed: int,
        progress: Progress | None,
        threshold: float | None = None,
        model: ModelHandle | None = None,
        score: bool = True,
    ) -> Representatives:
        """As `duplicates.stage.representatives`; only the latest answer of each kind is kept."""
        from thresher.duplicates.stage import representatives

        rows = hashlib.sha256(within.tobytes() + keep.tobytes()).digest()
        key = (how, seed, rows, threshold, None if model is None else model.identity, score)
        if key not in self._copies:
            found = representatives(
                pool,
                how,
                within,
                keep,
                store,
                seed=seed,
                progress=progress,
                threshold=threshold,
                model=model,
                score=score,
            )
            self._copies = {key: found}
        return self._copies[key]
