"""Columns over a whole pool: one signal or several, computed where they are not stored, in the
pool's own order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.active import OnMissing
from thresher.engine.computation import begin
from thresher.engine.means import Means
from thresher.samplers.ordering import inverse_permutation
from thresher.storage.columns import Store
from thresher.training.registry import Trainer
from thresher.types import Signal

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.pools import Pool


@dataclass(frozen=True)
class Column:
    """One signal over the whole pool, in pool order, [n] each."""

    values: dict[str, np.ndarray]  # field -> array; meaningful where `known`
    known: np.ndarray  # bool
    errors: np.ndarray  # object, str: why a row is not known, "" where it is


def compute(
    signal: Signal,
    pool: Pool,
    *,
    store: Store,
    seed: int = 0,
    model: ModelHandle | None = None,
    on_missing: OnMissing = "auto",
    retry_errors: bool = False,
    progress: Progress | None = None,
    trainer: Trainer | None = None,
) -> Column:
    """One signal of every row, scored where it is not stored. Raises TooManyFailures, StoreError,
    and what opening the model raises."""
    name = signal.kind
    # shown, not used
    means = Means(store, seed, model, {}, trainer, on_missing, retry_errors, progress, force=True)
    return compute_all({name: signal}, pool, means)[name]


def compute_all(
    signals: Mapping[str, Signal], pool: Pool, means: Means, within: np.ndarray | None = None
) -> dict[str, Column]:
    """Several signals as a selection computes them: each one's rows are those still active when its
    turn came.

    `within`: bool [n], the rows that are considered at all; the others are not known.
    """
    computation = begin(pool, signals, means, within=within)
    back = inverse_permutation(computation.order)
    out: dict[str, Column] = {}
    computation.name(signals)
    for name, signal in signals.items():
        values = computation.column(signal, name)
        errors = np.full(len(pool), "", dtype=object)
        for positions, _, texts in computation.failed:
            errors[positions] = texts
        out[name] = Column(
            {f: a[back] for f, a in values.items()}, computation.active[back], errors[back]
        )
    return out
