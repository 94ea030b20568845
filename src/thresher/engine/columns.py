"""Columns of all rows of a pool, in pool order; what is not stored is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.column_engine import create_engine
from thresher.engine.context import RunContext
from thresher.types import Signal

if TYPE_CHECKING:
    from thresher.pools.view import PoolView
    from thresher.request import RunRequest


@dataclass(frozen=True)
class Column:
    """The values of one signal for all n rows of a pool, in pool order."""

    values: dict[str, np.ndarray]  # field -> array [n]; meaningful where `known`
    known: np.ndarray  # bool [n]: the row has values
    errors: np.ndarray  # object [n], str: why a row has no values; "" if it has


def compute_all(
    signals: Mapping[str, Signal],
    pool: PoolView,
    request: RunRequest,
    context: RunContext,
    within: np.ndarray | None = None,
) -> dict[str, Column]:
    """Compute several signals as a selection does.

    Each signal is computed for the rows that are still eligible. Raises what
    `ColumnEngine.columns` raises.

    Arguments:
        signals: by name.
        pool: n rows.
        request, context: as for `ColumnEngine`.
        within: bool [n], pool order: the rows that are considered; the others have no values.
    """
    engine = create_engine(pool, signals, request, context, within=within)
    eligible, position = engine.eligible, engine.numbering.positions  # [n] int64: of each pool row
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
