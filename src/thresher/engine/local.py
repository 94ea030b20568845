"""Computes a signal's values in this process: rows are parsed in calls of bounded size, and
complete results are passed on in groups.

Uses samples and signals, but no store: results go to `keep`. No I/O.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from thresher.types import Columns, RowSignal, Sample, SampleSource, Scored, SharedSignal

ROWS_PER_CALL = 8192  # parsed samples in memory; pixels are bounded by the backend
FLUSH_ROWS = 4096
FLUSH_SECONDS = 15.0  # a crash of a slow model loses at most this much work

Keep = Callable[[np.ndarray, list[Scored]], None]
"""Receives complete rows: their entries, int64 [m], and one `Scored` per signal, whose `index` is
these entries."""
Blocks = Callable[[Callable[[], None]], np.ndarray | None]
"""`blocks(flush)`: the entries to score next, int64 [b]; None at the end. `flush()` passes all
complete rows to `keep` now."""


def score(
    signals: Sequence[RowSignal],
    samples: Callable[[np.ndarray], Sequence[Sample]],
    blocks: Blocks,
    inputs: Columns | None,
    backend: Callable[[], Any],
    pool: SampleSource,
    keep: Keep,
    advance: Callable[[int], None] | None = None,
    *,
    rows_per_call: int = ROWS_PER_CALL,
    flush_rows: int = FLUSH_ROWS,
    flush_seconds: float = FLUSH_SECONDS,
) -> None:
    """Score e rows, which are numbered 0 … e-1 here ("entries").

    `keep` receives complete rows when there are `flush_rows` of them, when `flush_seconds` have
    passed, and when an exception (Ctrl-C included) ends the work: it is raised after they are kept.
    Raises AssertionError if a signal yields an entry twice or never, which is a bug of the signal.

    Arguments:
        signals: at least one; several are computed in one pass (`SharedSignal`).
        samples: parses the rows of some entries (int64 [b]) into b samples.
        blocks: returns the entries to score next.
        inputs: e rows of input columns; None for signals without inputs.
        backend: returns the model; called after `blocks`, which may open it.
        pool: source of images.
        keep: receives complete rows.
        advance: called with the number of rows that were completed.
        rows_per_call: maximum number of rows that are parsed at once.
        flush_rows: number of complete rows that are passed to `keep` together.
        flush_seconds: maximum time between two calls of `keep`, in seconds, while rows complete.
    """
    buffer = _Buffer(signals, keep, flush_rows, flush_seconds)
    try:
        for entries in _calls(blocks, buffer.flush, rows_per_call):  # [b] int64
            given = None if inputs is None else inputs.take(entries)  # b rows
            pending = np.ones(len(entries), dtype=bool)  # [b]
            for pieces in _score(signals, samples(entries), given, backend(), pool):
                index = np.asarray(pieces[0].index, dtype=np.int64)  # [m] int64, into `entries`
                _check(signals, pieces, index, pending)
                pending[index] = False
                buffer.add(entries[index], pieces)
                if advance is not None:
                    advance(len(index))
            left = int(pending.sum())
            assert left == 0, (
                f"signal {signals[0].kind!r} never yielded {left} of {len(entries)} rows"
            )
    finally:
        buffer.flush()


def _calls(blocks: Blocks, flush: Callable[[], None], most: int) -> Iterator[np.ndarray]:
    """Blocks cut into calls of at most `most` entries, int64 [c] each."""
    while (block := blocks(flush)) is not None:  # [b] int64
        for start in range(0, len(block), most):
            yield block[start : start + most]


def _score(
    signals: Sequence[RowSignal],
    samples: Sequence[Sample],
    inputs: Columns | None,
    backend: Any,
    pool: SampleSource,
) -> Iterator[Sequence[Scored]]:
    """One `Scored` per signal for each piece of `samples`."""
    if len(signals) == 1:
        return ([piece] for piece in signals[0].rows(samples, inputs, backend, pool))
    first = signals[0]
    assert isinstance(first, SharedSignal), f"signal {first.kind!r} cannot share a pass"
    return first.batch_rows(signals, samples, inputs, backend, pool)


def _check(
    signals: Sequence[RowSignal], pieces: Sequence[Scored], index: np.ndarray, pending: np.ndarray
) -> None:
    """Check what a signal yielded.

    `index`: int64 [m], the rows that the pieces are of; `pending`: bool [b], rows not yielded yet.
    """
    n = len(pending)
    where = f"signal {signals[0].kind!r}"
    assert len(pieces) == len(signals), (
        f"{where} yielded values for {len(pieces)} of {len(signals)} signals"
    )
    inside = len(index) == 0 or (index.min() >= 0 and index.max() < n)
    assert inside, f"{where} yielded a position outside 0 … {n - 1}"
    once = len(np.unique(index)) == len(index) and bool(pending[index].all())
    assert once, f"{where} yielded a position twice"
    for signal, piece in zip(signals, pieces, strict=True):
        where = f"signal {signal.kind!r}"
        assert np.array_equal(piece.index, index), (
            f"{where}: signals computed together must yield the same rows"
        )
        assert len(piece.errors) == len(index), (
            f"{where} yielded {len(index)} rows with {len(piece.errors)} errors"
        )
        for f in signal.fields:
            given = piece.values.get(f.name)
            right = given is not None and len(given) == len(index)
            assert right, f"{where}: field {f.name!r} is absent or has a wrong length"


class _Buffer:
    """Collects pieces until there are enough to be stored."""

    def __init__(self, signals: Sequence[RowSignal], keep: Keep, rows: int, seconds: float) -> None:
        self.signals, self.keep, self.rows, self.seconds = signals, keep, rows, seconds
        self.entries: list[np.ndarray] = []  # int64 [m] each
        self.pieces: list[Sequence[Scored]] = []  # one Scored per signal each
        self.size = 0
        self.since = time.monotonic()

    def add(self, entries: np.ndarray, pieces: Sequence[Scored]) -> None:
        if not len(entries):
            return
        self.entries.append(entries)
        self.pieces.append(pieces)
        self.size += len(entries)
        if self.size >= self.rows or time.monotonic() - self.since >= self.seconds:
            self.flush()

    def flush(self) -> None:
        if self.pieces:
            try:
                entries = np.concatenate(self.entries)  # [m] int64
                columns = zip(self.signals, zip(*self.pieces, strict=True), strict=True)
                self.keep(
                    entries, [_concatenate(signal, entries, parts) for signal, parts in columns]
                )
            except Exception:
                # `score` flushes once more when it ends: not again after an error of `keep`, but
                # again after Ctrl-C, which is not an Exception.
                self.entries, self.pieces = [], []
                raise
        self.entries, self.pieces, self.size, self.since = [], [], 0, time.monotonic()


def _concatenate(signal: RowSignal, entries: np.ndarray, parts: Sequence[Scored]) -> Scored:
    """Consecutive parts of one signal's results as one; `entries`: int64 [m], of all of them."""
    values = {
        f.name: np.concatenate([np.asarray(p.values[f.name]) for p in parts]) for f in signal.fields
    }
    return Scored(entries, values, [error for p in parts for error in p.errors])
