"""Columns over a whole pool: one signal or several, computed where they are not stored, in the
pool's own order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.column_engine import create_engine
from thresher.engine.eligible import OnMissing
from thresher.engine.means import Means
from thresher.storage.columns import Store
from thresher.training.registry import Trainer
from thresher.types import Signal

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.pools.view import PoolView


@dataclass(frozen=True)
class Column:
    """One signal over the whole pool, in pool order, [n] each."""

    values: dict[str, np.ndarray]  # field -> array; meaningful where `known`
    known: np.ndarray  # bool
    errors: np.ndarray  # object, str: why a row is not known, "" where it is


def compute(
    signal: Signal,
    pool: PoolView,
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
    signals: Mapping[str, Signal],
    pool: PoolView,
    means: Means,
    within: np.ndarray | None = None,
) -> dict[str, Column]:
    """Several signals as a selection computes them: each one's rows are those still eligible when
    its turn came.

    `within`: bool [n], the rows that are considered at all; the others are not known.
    """
    engine = create_engine(pool, signals, means, within=within)
    eligible, position = engine.eligible, engine.numbering.positions  # [n] int64, by pool row
    out: dict[str, Column] = {}
    engine.declare(signals)
    for name, signal in signals.items():
        fields = engine.column(signal, name)  # field -> [n], by position
        errors = np.full(len(pool), "", dtype=object)  # [n], by position
        for failed in eligible.failed:
            errors[failed.positions] = failed.errors
        out[name] = Column(
            {f: a[position] for f, a in fields.items()}, eligible.mask[position], errors[position]
        )
    return out
