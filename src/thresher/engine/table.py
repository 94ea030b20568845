"""The columns that were computed so far, by signal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thresher.engine.graph import memo_key
from thresher.engine.numbering import RowNumbering
from thresher.types import Columns, Signal

Fields = dict[str, np.ndarray]
"""Field name -> array [n], by position; meaningful for the rows that are still eligible."""


class ColumnTable:
    """One entry for each distinct signal. The key is `memo_key`: of its fingerprint and inputs."""

    def __init__(self, numbering: RowNumbering) -> None:
        self.numbering = numbering
        self._fields: dict[str, Fields] = {}

    def __contains__(self, signal: Signal) -> bool:
        return memo_key(signal) in self._fields

    def __getitem__(self, signal: Signal) -> Fields:
        return self._fields[memo_key(signal)]

    def __setitem__(self, signal: Signal, fields: Fields) -> None:
        self._fields[memo_key(signal)] = fields

    def columns(self, signals: Mapping[str, Signal]) -> Columns:
        """The columns of these signals for all n rows, under the names given."""
        return self.numbering.columns({name: self[signal] for name, signal in signals.items()})
