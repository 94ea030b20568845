"""Stops a run whose columns turn out to be meaningless: after their first rows, and whenever they
are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from thresher.errors import CapabilityError, opt
from thresher.types import CheckedSignal, RowSignal, Scored

EARLY_ROWS = 16
"""Rows after which a column that is being scored is checked."""


def check_values(
    signal: RowSignal, label: str, values: Mapping[str, np.ndarray], errors: Sequence[str]
) -> None:
    """Raise CapabilityError if the signal reports that its column is meaningless.

    Arguments:
        signal, label, values, errors: as in `fault_of`.
    """
    if fault := fault_of(signal, label, values, errors):
        raise CapabilityError(
            f"{fault}. What was scored is stored; to continue anyway, add {opt('force', True)}."
        )


def fault_of(
    signal: RowSignal, label: str, values: Mapping[str, np.ndarray], errors: Sequence[str]
) -> str:
    """Why a column is meaningless, with its name in front; "": it is not.

    Arguments:
        signal: the signal; only a `CheckedSignal` is checked.
        label: its name in the message.
        values: field -> array [m].
        errors: m texts, "" or why a row has no values.
    """
    fault = signal.fault(values, errors) if isinstance(signal, CheckedSignal) else ""
    return f"{label}: {fault}" if fault else ""


class EarlyCheck:
    """Checks columns that are scored in one pass as soon as their first rows are complete.

    Arguments:
        signals: of the pass.
        labels: their names in messages.
    """

    def __init__(self, signals: Sequence[RowSignal], labels: Sequence[str]) -> None:
        self._signals = list(zip(signals, labels, strict=True))
        self._pieces: list[list[Scored]] = [[] for _ in signals]
        self._rows = 0

    def add(self, pieces: Sequence[Scored]) -> None:
        """Add m more rows: one `Scored` for each signal. Raises CapabilityError."""
        if self._rows >= EARLY_ROWS:
            return
        self._rows += len(pieces[0].errors)
        for collected, piece in zip(self._pieces, pieces, strict=True):
            collected.append(piece)
        if self._rows < EARLY_ROWS:
            return
        for (signal, label), collected in zip(self._signals, self._pieces, strict=True):
            values = {
                f.name: np.concatenate([piece.values[f.name] for piece in collected])
                for f in signal.fields
            }
            check_values(signal, label, values, [e for piece in collected for e in piece.errors])
        self._pieces = []
