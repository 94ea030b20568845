"""Columns in memory: a computation that recalls what an earlier one of the same pool loaded, and
scores nothing.

A row signal depends on the row and on its input values only. So a column holds for other rows of
the pool, another seed or another method as long as the inputs that it was computed from are the
same in the rows that count now; that is compared, value by value. What cannot be recalled is loaded
from the store, and what is not there is `NotStored`. Writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.engine import Computation, Means, Request, SignalRun
from thresher.engine.graph import memo_key, needs_model
from thresher.errors import ThresherError
from thresher.fingerprint import fingerprint
from thresher.types import PartSignal, RowSignal, SharedSignal, Signal

if TYPE_CHECKING:
    from thresher.pools import Pool


class NeedsModel(ThresherError):
    """What was asked for takes a model that was not asked yet, and none runs here. The same by
    command works."""


class NotStored(NeedsModel):
    """A column is not there for some rows."""

    def __init__(self, label: str, missing: int, wanted: int) -> None:
        rows = "row" if missing == 1 else "rows"
        super().__init__(
            f"{label} is not stored for {missing:,} of {wanted:,} {rows}, and no model runs here."
        )
        self.label, self.missing, self.wanted = label, missing, wanted


@dataclass(frozen=True)
class Entry:
    """A row signal's column as it was found once. Arrays [n] in the pool's canonical order."""

    fingerprint: str
    asked: np.ndarray  # bool: rows that were active then
    inputs: dict[tuple[str, str], np.ndarray]  # the values that it was computed from
    values: dict[str, np.ndarray]
    positions: np.ndarray  # int64 [b]: rows that could not be scored …
    errors: list[str]  # … and why
    run: SignalRun


class Recall:
    """The columns of pools that stay open, under one store. `start` takes the place of
    `engine.begin`."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool  # that is chosen from; any other is a validation set
        # by the pool: the one chosen from, and a validation set
        self.entries: dict[int, dict[str, Entry]] = {}

    def start(
        self,
        pool: Pool,
        signals: Mapping[str, Signal],
        means: Means,
        *,
        usable_only: bool = False,
        within: np.ndarray | None = None,
        aside: Callable[[str], bool] | None = None,
    ) -> Computation:
        needs = needs_model(signals)
        if needs and means.model is None and not means.roles:
            raise NeedsModel(
                "This method asks a model about the rows, and the selection named none."
            )
        mine = self.entries.setdefault(id(pool), {})
        of = "" if pool is self.pool else "validation "
        made = Recalling(mine, of, pool, means, within=within, aside=aside)
        made.exclude_known_problems(needs or usable_only)
        return made


class Recalling(Computation):
    """As a computation, but for row signals."""

    def __init__(
        self, entries: dict[str, Entry], of: str, pool: Pool, means: Means, **told: Any
    ) -> None:
        super().__init__(pool, means, **told)
        self.entries, self.of = entries, of
        self.last: tuple[np.ndarray, list[str]] = (np.zeros(0, np.int64), [])

    def exclude(self, positions: np.ndarray, label: str, errors: list[str]) -> None:
        self.last = (positions, errors)
        super().exclude(positions, label, errors)

    def _row_signal(self, signal: RowSignal, label: str) -> dict[str, np.ndarray]:
        began = time.monotonic()
        key = memo_key(signal)
        resolved = self.resolve(signal)
        inputs = self._inputs(signal)
        known = self.entries.get(key)
        if (
            known is not None
            and known.fingerprint == fingerprint(resolved)
            and self._holds(known, inputs)
        ):
            there = self.active[known.positions]
            self.exclude(
                known.positions[there],
                label,
                [e for e, a in zip(known.errors, there, strict=True) if a],
            )
            run = known.run
            seconds = time.monotonic() - began
            run = SignalRun(
                run.name, label, run.fingerprint, run.wanted, 0, run.failed, seconds, run.cost
            )
            self.runs.append(run)
            self._note_trainings(resolved, label)
            return known.values
        asked = self.active.copy()
        out = super()._row_signal(signal, label)
        positions, errors = self.last
        self.entries[key] = Entry(
            fingerprint(resolved), asked, inputs, out, positions, list(errors), self.runs[-1]
        )
        return out

    def _inputs(self, signal: RowSignal) -> dict[tuple[str, str], np.ndarray]:
        """The input columns that the signal's values depend on, and the rows that it is asked
        of."""
        every = [(name, f.name) for name, inner in signal.inputs().items() for f in inner.fields]
        named = list(getattr(type(signal), "key_fields", every))
        out = {
            (name, field): self._memo[memo_key(signal.inputs()[name])][field]
            for name, field in named
        }
        if isinstance(signal, PartSignal):
            out["", "among"] = self._memo[memo_key(signal.among)]["chosen"]
        return out

    def _holds(self, known: Entry, inputs: Mapping[tuple[str, str], np.ndarray]) -> bool:
        if (self.active & ~known.asked).any() or known.inputs.keys() != inputs.keys():
            return False
        return all(
            a is known.inputs[k] or _same(a, known.inputs[k], self.active)
            for k, a in inputs.items()
        )

    def _score(self, signals: Sequence[RowSignal], label: str, request: Request) -> None:
        raise NotStored(
            self.of + label, int(request.rows[request.todo].sum()), int(request.rows.sum())
        )

    def _score_together(
        self,
        signal: SharedSignal,
        label: str,
        request: Request,
        company: Mapping[str, SharedSignal],
    ) -> None:
        raise NotStored(
            self.of + label, int(request.rows[request.todo].sum()), int(request.rows.sum())
        )


def _same(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> bool:
    """Whether two arrays agree in the rows `where`; NaN agrees with NaN."""
    if a.dtype != b.dtype:
        return False
    differ = a != b
    if a.dtype.kind == "f":
        differ &= ~(np.isnan(a) & np.isnan(b))
    return not (differ & where).any()
