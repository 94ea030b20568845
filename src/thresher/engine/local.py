"""How work is spread: here, over nothing. One process feeds a row signal and hands complete results
on as they come.

Another engine differs in this file only. It knows samples and signals; it knows nothing of the
store (results go to `keep`) and nothing of pools but `SampleSource`. It may touch no file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from thresher.types import Columns, RowSignal, Sample, SampleSource, Scored, SharedSignal

# bounds memory: the parsed samples of one call; pixels are the backend's affair
ROWS_PER_CALL = 8192
FLUSH_ROWS = 4096
FLUSH_SECONDS = 15.0  # what a crash of a slow model may cost


Keep = Callable[[np.ndarray, list[Scored]], None]
"""Receives complete rows: positions int64 [m] in the caller's numbering, and one `Scored` per
signal, whose `index` they are."""
Blocks = Callable[[Callable[[], None]], np.ndarray | None]
"""`blocks(flush)`: the positions to score next, int64 [b]; None at the end. `flush()` hands all
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
    """Score what `blocks` hands out, in calls of at most `rows_per_call`; `samples(positions)`
    parses them.

    `signals`: at least one; several are `SharedSignal`s of one `together()`, answered in one pass.

    `inputs`: one row a position, or None. `backend()`: the model, which may be opened when the
    first block is handed out. Complete rows reach `keep` when `flush_rows` have gathered or
    `flush_seconds` have passed, and also when anything (Ctrl-C too) ends the work early: the
    exception follows after they are kept. `advance(m)` is told of each m rows. A signal that yields
    a position twice or never is our bug: AssertionError.
    """
    buffer = _Buffer(signals, keep, flush_rows, flush_seconds)
    try:
        for positions in _calls(blocks, buffer.flush, rows_per_call):
            given = None if inputs is None else inputs.take(positions)
            open_rows = np.ones(len(positions), dtype=bool)
            for pieces in _answers(signals, samples(positions), given, backend(), pool):
                # [m], into this call's positions
                index = np.asarray(pieces[0].index, dtype=np.int64)
                _check(signals, pieces, index, open_rows)
                open_rows[index] = False
                buffer.add(positions[index], pieces)
                if advance is not None:
                    advance(len(index))
            left = int(open_rows.sum())
            assert left == 0, (
                f"signal {signals[0].kind!r} never yielded {left} of {len(positions)} rows"
            )
    finally:
        buffer.flush()


def _calls(blocks: Blocks, flush: Callable[[], None], most: int) -> Iterator[np.ndarray]:
    while (block := blocks(flush)) is not None:
        for start in range(0, len(block), most):
            yield block[start : start + most]


def _answers(
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
    assert isinstance(first, SharedSignal), f"signal {first.kind!r} is asked alone"
    return first.rows_together(signals, samples, inputs, backend, pool)


def _check(
    signals: Sequence[RowSignal], pieces: Sequence[Scored], index: np.ndarray, open_rows: np.ndarray
) -> None:
    """`index`: int64 [m], positions that the pieces answer for; `open_rows`: bool [b], those not
    answered yet."""
    n = len(open_rows)
    where = f"signal {signals[0].kind!r}"
    assert len(pieces) == len(signals), (
        f"{where} answered for {len(pieces)} of {len(signals)} signals"
    )
    inside = len(index) == 0 or (index.min() >= 0 and index.max() < n)
    assert inside, f"{where} yielded a position outside 0 … {n - 1}"
    once = len(np.unique(index)) == len(index) and bool(open_rows[index].all())
    assert once, f"{where} yielded a position twice"
    for signal, piece in zip(signals, pieces, strict=True):
        where = f"signal {signal.kind!r}"
        assert np.array_equal(piece.index, index), (
            f"{where}: signals asked together answer for the same rows"
        )
        assert len(piece.errors) == len(index), (
            f"{where} yielded {len(index)} rows with {len(piece.errors)} errors"
        )
        for f in signal.fields:
            given = piece.values.get(f.name)
            right = given is not None and len(given) == len(index)
            assert right, f"{where}: field {f.name!r} is absent or has a wrong length"


class _Buffer:
    """Gathers pieces until they are worth a part."""

    def __init__(self, signals: Sequence[RowSignal], keep: Keep, rows: int, seconds: float) -> None:
        self.signals, self.keep, self.rows, self.seconds = signals, keep, rows, seconds
        self.positions: list[np.ndarray] = []
        self.pieces: list[Sequence[Scored]] = []  # one Scored per signal each
        self.size = 0
        self.since = time.monotonic()

    def add(self, positions: np.ndarray, pieces: Sequence[Scored]) -> None:
        if not len(positions):
            return
        self.positions.append(positions)
        self.pieces.append(pieces)
        self.size += len(positions)
        if self.size >= self.rows or time.monotonic() - self.since >= self.seconds:
            self.flush()

    def flush(self) -> None:
        if self.pieces:
            try:
                positions = np.concatenate(self.positions)  # int64 [m]
                columns = zip(self.signals, zip(*self.pieces, strict=True), strict=True)
                self.keep(
                    positions, [_joined(signal, positions, parts) for signal, parts in columns]
                )
            except Exception:
                # The last flush on the way out must not try again; after Ctrl-C in here it must.
                self.positions, self.pieces = [], []
                raise
        self.positions, self.pieces, self.size, self.since = [], [], 0, time.monotonic()


def _joined(signal: RowSignal, positions: np.ndarray, parts: Sequence[Scored]) -> Scored:
    """Consecutive parts of one signal's answers as one; `positions`: int64 [m], of all of them."""
    values = {
        f.name: np.concatenate([np.asarray(p.values[f.name]) for p in parts]) for f in signal.fields
    }
    return Scored(positions, values, [error for p in parts for error in p.errors])
