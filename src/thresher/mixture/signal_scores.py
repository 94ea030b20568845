"""Compute the signals that filters, quotas and `--drop-suspects` name, before the method runs.

All of them are computed together, on the same rows: those left by `--drop` and filters on records.
The order of the options therefore does not matter, and all of them use the same skills. Scores are
stored like those of a method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.console.formatting import pluralize
from thresher.engine import RunContext, SignalRun, create_engine
from thresher.engine.eligible import FailedRows
from thresher.engine.graph import with_inputs
from thresher.errors import ConfigError, did_you_mean, opt
from thresher.mixture.columns import PoolColumns, as_number
from thresher.request import RunRequest
from thresher.signals.named import NamedField, signals_for
from thresher.types import RowError, RowSignal, Signal

if TYPE_CHECKING:
    from thresher.pools import Pool

UNSCORABLE_ERRORS = ("video", "audio", "too long")  # kinds of errors of valid rows
MAX_LABELS = 12  # in a message


@dataclass(frozen=True)
class SignalColumn:
    """One field of a signal, arrays of length n in pool order.

    values: only meaningful where `known`. ids: for labels, the identifier of each row's label.
    """

    values: np.ndarray
    known: np.ndarray  # bool
    ids: np.ndarray | None = None

    @property
    def missing(self) -> np.ndarray:
        """bool [n]: rows without a value, such as the visual gain of a row without an image."""
        missing = ~self.known
        return missing | np.isnan(self.values) if self.values.dtype.kind == "f" else missing

    def numbers(self) -> np.ndarray | None:
        """Float [n], NaN for rows without a value; None for booleans and texts."""
        if self.values.dtype.kind not in "iuf":
            return None
        whole = self.values.dtype.kind != "f"  # float32 stays: 0.9 as typed is 0.9 as stored
        numbers = self.values.astype(np.float64) if whole else self.values
        return np.where(self.known, numbers, numbers.dtype.type(np.nan))

    def items(self) -> list[Any]:
        """Each row's value; None for rows without one."""
        rows = zip(self.values.tolist(), self.missing.tolist(), strict=True)
        return [None if missing else value for value, missing in rows]

    def reasons(self) -> np.ndarray:
        """[n], as a column of reasons: NaN or "" for rows without a value."""
        if (numbers := self.numbers()) is not None:
            return numbers if not self.known.all() else self.values
        texts = self.values if self.values.dtype.kind == "b" else self.values.astype(object)
        return np.where(self.known, texts, texts.dtype.type() if texts.dtype.kind == "b" else "")

    def value(self, name: str, typed: str, option: str) -> str:
        """The normalised text of a typed value, for comparison; an identifier becomes its label.

        Raises ConfigError for a value that no row can have.
        """
        if self.ids is not None:
            return self._label(name, typed, option)
        if self.values.dtype.kind == "b":
            if typed.casefold() not in ("true", "false"):
                raise ConfigError(f"{option}: {name} is true or false, not {typed!r}.")
            return typed.casefold()
        if self.values.dtype.kind in "iuf" and as_number(typed) is None:
            raise ConfigError(f"{option}: {name} is a number, and {typed!r} is none.")
        return typed

    def _label(self, name: str, typed: str, option: str) -> str:
        assert self.ids is not None, "only labels have identifiers"
        labels, ids = self.values[self.known], self.ids[self.known]
        found, first, rows = np.unique(labels.astype(str), return_index=True, return_counts=True)
        names = found.tolist()
        id_of = dict(zip(names, ids[first].tolist(), strict=True))
        of_id = {id_: label for label, id_ in id_of.items()}
        word = " ".join(typed.casefold().split())
        if word in id_of:
            return word
        if word in of_id:
            return str(of_id[word])
        order = np.lexsort((np.arange(len(names)), -rows))[:MAX_LABELS]
        displayed = ", ".join(
            names[i]
            + ("" if id_of[names[i]] in names[i] else f" ({id_of[names[i]]})")
            + f": {pluralize(int(rows[i]))}"
            for i in order
        )
        more = f" and {len(names) - len(order):,} more" if len(names) > len(order) else ""
        raise ConfigError(
            f"{option}: no row has {name} {typed!r}.{did_you_mean(word, names)} There are, with "
            f"identifiers: {displayed}{more}."
        )


@dataclass(frozen=True)
class SignalScores:
    """Results of `score_signals`.

    columns: by name as typed; empty if rows are `missing`. signals: the computed signals, by name.
    rows: bool [n], the rows that were scored. failed: rows that could not be scored, by position.
    required: whether these are excluded as failures. aside: int64 [a], pool rows that no model can
    score, with `--unscorable`. runs: the cost. missing: number of rows without stored scores, if
    the model was not allowed to run.
    """

    columns: Mapping[str, SignalColumn]
    signals: Mapping[str, Signal]
    rows: np.ndarray
    failed: tuple[FailedRows, ...]
    failed_rows: np.ndarray  # int64 [f], pool rows
    aside: np.ndarray
    runs: tuple[SignalRun, ...]
    required: bool
    missing: int = 0


class NamedColumns:
    """Columns of a pool by name: facts, fields of records and signals.

    Arguments:
        pool: columns that are read from the records.
        signals: computed columns, by name.
    """

    def __init__(self, pool: PoolColumns, signals: Mapping[str, SignalColumn]) -> None:
        self._pool, self._signals = pool, signals

    def numbers(self, name: str) -> np.ndarray | None:
        """Float [n] of a fact or a numeric signal; None for other columns."""
        signal = self._signals.get(name)
        return self._pool.numbers(name) if signal is None else signal.numbers()

    def values(self, name: str, option: str) -> list[Any]:
        """As `PoolColumns.values`."""
        signal = self._signals.get(name)
        return self._pool.values(name, option) if signal is None else signal.items()

    def value(self, name: str, typed: str, option: str) -> str:
        """The normalised text of a typed value, as `SignalColumn.value`. Raises ConfigError."""
        signal = self._signals.get(name)
        return typed if signal is None else signal.value(name, typed, option)


def is_unscorable(request: RunRequest, error: str) -> bool:
    """Whether a row with this error is treated by the option `unscorable` instead of as a failure.

    Arguments:
        request: of the run.
        error: of the row.
    """
    return request.unscorable is not None and RowError.parse(error).kind in UNSCORABLE_ERRORS


def score_signals(
    pool: Pool,
    fields: Mapping[str, NamedField],
    rows: np.ndarray,
    request: RunRequest,
    context: RunContext,
    *,
    option: str,
    required: bool,
    score: bool,
) -> SignalScores:
    """Read the signals from the store, and compute the scores that it lacks.

    Arguments:
        pool: n rows.
        fields: signal fields by name as typed.
        rows: bool [n], the rows to score.
        request: the seed, and the treatment of rows that fail.
        context: the model and the store.
        option: the option that names the first of the signals, for messages.
        required: whether rows that cannot be scored are excluded as failures; `on_missing` of the
            request then limits their number.
        score: whether the model may be run; if not, and some rows are not scored yet, nothing is
            computed.

    Raises ConfigError (no model), CapabilityError, TooManyFailures, StoreError.
    """
    if context.model is None:
        name = next(iter(fields))
        raise ConfigError(
            f"{option}: {name} is a signal of a model, and none was named. Give {opt('model')} "
            "with a folder or a hub id, or demo."
        )
    embedder = None if context.embedder is None else context.embedder.identity
    signals = signals_for(list(fields.values()), context.model.identity, embedder)
    scoring = RunRequest(
        seed=request.seed,
        on_missing=request.on_missing if required and score else "exclude",
        unscorable=request.unscorable,
        retry_errors=request.retry_errors,
        force=request.force,
    )
    engine = create_engine(
        pool,
        signals,
        scoring,
        context,
        within=rows,
        is_aside=lambda error: is_unscorable(request, error),
    )
    eligible, position = engine.eligible, engine.numbering.positions
    if not score:
        missing = max(
            int(engine.scoring_request(signal, name).missing.sum())
            for name, signal in with_inputs(signals).items()
            if isinstance(signal, RowSignal)
        )
        if missing:
            nothing = np.zeros(0, np.int64)
            return SignalScores({}, signals, rows, (), nothing, nothing, (), required, missing)
    engine.declare(signals)
    found = {name: engine.column(signal, name) for name, signal in signals.items()}
    engine.close()
    known = eligible.mask[position]
    columns = {}
    for name, field in fields.items():
        column = found[field.signal]
        ids = None if field.identifier is None else column[field.identifier][position]
        columns[name] = SignalColumn(column[field.field][position], known, ids)
    failed = tuple(eligible.failed)
    positions = np.concatenate([np.zeros(0, np.int64), *(f.positions for f in failed)])
    return SignalScores(
        columns,
        signals,
        rows,
        failed,
        engine.numbering.pool_rows[positions],
        eligible.pool_rows_aside,
        tuple(engine.runs),
        required,
    )
