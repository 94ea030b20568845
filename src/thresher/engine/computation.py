"""Signal by signal, inputs first and each distinct one once: from what is declared to columns of
the rows that are left.

Touches the store, the pool and models through `passes` only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from thresher.engine.graph import memo_key, needs_model, walk
from thresher.engine.meaning import refuse
from thresher.engine.means import Means
from thresher.engine.passes import Passes
from thresher.engine.requests import SignalRun, blank
from thresher.errors import ConfigError, StoreError
from thresher.types import (
    Columns,
    FactSignal,
    PartSignal,
    PoolSignal,
    RowSignal,
    SharedSignal,
    Signal,
)

if TYPE_CHECKING:
    from thresher.pools import Pool


class Computation(Passes):
    """Columns of one pool under one store. `active` (bool [n], canonical order) only ever shrinks.

    Raises TooManyFailures as soon as more rows have failed than `on_missing` allows: auto 5% of the
    pool, refuse none.
    """

    def columns(self, signals: Mapping[str, Signal]) -> Columns:
        """The named columns of the rows that are active once all of them are computed."""
        self.name(signals)
        for name, signal in signals.items():
            self.column(signal, name)
        return self._gather(signals)

    def name(self, signals: Mapping[str, Signal]) -> None:
        """Make these the labels, also where one of them is first met as another's input; note who
        is asked together."""
        for name, signal in signals.items():
            self._labels.setdefault(memo_key(signal), name)
        for signal in walk(signals):
            if isinstance(signal, SharedSignal):
                self._peers.setdefault(signal.together(), {}).setdefault(memo_key(signal), signal)

    def _gather(self, signals: Mapping[str, Signal]) -> Columns:
        """Already computed columns, active rows only."""
        values = {name: self._memo[memo_key(signal)] for name, signal in signals.items()}
        names = self.pool.source_names
        return Columns(self.digest, self.ties, self.source, names, values).take(self.active)

    def column(self, signal: Signal, label: str) -> dict[str, np.ndarray]:
        """field -> array [n]; meaningful where `active` is true now."""
        memo = memo_key(signal)
        if memo in self._memo:
            return self._memo[memo]
        label = self._labels.setdefault(memo, label)
        for name, inner in signal.inputs().items():
            self.column(inner, f"{label}.{name}")
        if isinstance(signal, RowSignal):
            out = self._row_signal(signal, label)
        elif isinstance(signal, PoolSignal):
            out = self._scatter(
                signal, signal.pool(self._gather(signal.inputs())), np.flatnonzero(self.active)
            )
        elif isinstance(signal, FactSignal):
            whole = signal.facts(self.pool.facts)
            out = self._scatter(
                signal, {f: a[self.order] for f, a in whole.items()}, np.arange(len(self.order))
            )
        else:
            raise TypeError(
                f"{type(signal).__qualname__} has none of `rows`, `pool` and `facts`: it is not a "
                "signal"
            )
        self._memo[memo] = out
        return out

    def _scatter(
        self, signal: Signal, values: Mapping[str, np.ndarray], positions: np.ndarray
    ) -> dict[str, np.ndarray]:
        out = {}
        for f in signal.fields:
            assert len(values[f.name]) == len(positions), (
                f"signal {signal.kind!r}: field {f.name!r} has a wrong length"
            )
            out[f.name] = np.zeros(len(self.order), dtype=np.asarray(values[f.name]).dtype)
            out[f.name][positions] = values[f.name]
        return out

    def _row_signal(self, signal: RowSignal, label: str) -> dict[str, np.ndarray]:
        began = time.monotonic()
        company = self._peers.get(signal.together(), {}) if isinstance(signal, SharedSignal) else {}
        signal = self.resolve(signal)
        request = self.request(signal)
        missing = bool(request.todo.any())
        if missing and isinstance(signal, SharedSignal):
            self._score_together(signal, label, request, company)
        elif missing:
            self._score([signal], label, request)
        if missing:
            values, errors, found = self.store.load(
                request.fingerprint, signal.fields, request.keys
            )
            if not found.all():
                raise StoreError(
                    f"{int((~found).sum()):,} rows of {label} were scored but are no longer in "
                    f"{self.store.folder(request.fingerprint)}: were files removed or damaged "
                    "meanwhile? Run the same command again."
                )
        else:
            values, errors = request.values, request.errors
        if not self.force:
            refuse(signal, label, values, errors.tolist())
        bad = errors != ""
        seconds = time.monotonic() - began
        # by key: a pass for a peer may have scored rows that left since
        here, elsewhere = (
            int(np.isin(request.keys, np.concatenate(keys)).sum()) if keys else 0
            for keys in (
                self._scored.pop(request.fingerprint, []),
                self._elsewhere.pop(request.fingerprint, []),
            )
        )
        wanted = len(request.keys)
        cost = wanted * self.store.cost(request.fingerprint)
        self.runs.append(
            SignalRun(
                signal.kind,
                label,
                request.fingerprint,
                wanted,
                here,
                int(bad.sum()),
                seconds,
                cost,
                elsewhere,
            )
        )
        self._note_trainings(signal, label)
        out = self._scatter(
            signal, {f: a[request.inverse] for f, a in values.items()}, request.positions
        )
        if isinstance(signal, PartSignal):
            blank(out, request.positions)
        gone = bad[request.inverse]
        self.exclude(request.positions[gone], label, errors[request.inverse[gone]].tolist())
        return out


def begin(
    pool: Pool,
    signals: Mapping[str, Signal],
    means: Means,
    *,
    usable_only: bool = False,
    within: np.ndarray | None = None,
    aside: Callable[[str], bool] | None = None,
) -> Computation:
    """What can be known to fail fails here, before anything is spent.

    `usable_only`: rows that no model can take leave also when no signal asks a model (they are to
    be trained on).
    `within`: bool [n], pool order, the rows that are considered at all (None: all). `aside(error)`:
    whether a row that fails so is set aside instead of counted as a failure.
    """
    needs = needs_model(signals)
    if needs and means.model is None and not means.roles:
        raise ConfigError(
            "This method asks a model about the rows. Name one: --model with a folder, a hub id, "
            "or demo."
        )
    computation = Computation(pool, means, within=within, aside=aside)
    computation.exclude_known_problems(needs or usable_only)
    return computation
