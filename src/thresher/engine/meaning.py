"""Columns that say of themselves that they mean nothing stop the run: after their first rows, and
whenever they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from thresher.errors import CapabilityError
from thresher.types import CheckedSignal, RowSignal, Scored

FIRST = 16
"""Rows after which a column that is being scored is looked at."""


def refuse(
    signal: RowSignal, label: str, values: Mapping[str, np.ndarray], errors: Sequence[str]
) -> None:
    """Raises CapabilityError where the signal finds a fault in its values."""
    if isinstance(signal, CheckedSignal) and (fault := signal.fault(values, errors)):
        raise CapabilityError(
            f"{label}: {fault}. What was scored is stored; to go on with it all the same, add "
            "--force."
        )


class FirstRows:
    """The first rows of columns that are scored in one pass."""

    def __init__(self, signals: Sequence[RowSignal], labels: Sequence[str]) -> None:
        self._of = list(zip(signals, labels, strict=True))
        self._pieces: list[list[Scored]] = [[] for _ in signals]
        self._rows = 0

    def add(self, pieces: Sequence[Scored]) -> None:
        """One `Scored` of m rows per signal. Raises CapabilityError once there are `FIRST` rows."""
        if self._rows >= FIRST:
            return
        self._rows += len(pieces[0].errors)
        for held, piece in zip(self._pieces, pieces, strict=True):
            held.append(piece)
        if self._rows < FIRST:
            return
        for (signal, label), held in zip(self._of, self._pieces, strict=True):
            values = {
                f.name: np.concatenate([piece.values[f.name] for piece in held])
                for f in signal.fields
            }
            refuse(signal, label, values, [e for piece in held for e in piece.errors])
        self._pieces = []
