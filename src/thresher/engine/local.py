"""How work is spread: here, over nothing. One process feeds a row signal and hands complete results on as they come.

Another engine differs in this file only. It knows samples and signals; it knows nothing of the store (results go to
`keep`) and nothing of pools but `SampleSource`. It may touch no file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from thresher.types import Columns, Field, Sample, SampleSource, Scored

ROWS_PER_CALL = 8192  # bounds memory: the parsed samples of one call; pixels are the backend's affair
FLUSH_ROWS = 4096
FLUSH_SECONDS = 15.0  # what a crash of a slow model may cost


class Scorable(Protocol):
    """What the engine asks of a row signal, or of several in one pass."""

    @property
    def kind(self) -> str: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...
    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]: ...


Keep = Callable[[np.ndarray, dict[str, np.ndarray], list[str]], None]
"""Receives complete rows: positions int64 [m] in the caller's numbering, field -> array [m], errors (list of m)."""
Blocks = Callable[[Callable[[], None]], np.ndarray | None]
"""`blocks(flush)`: the positions to score next, int64 [b]; None at the end. `flush()` hands all complete rows to `keep` now."""


def score(
    signal: Scorable,
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
    """Score what `blocks` hands out, in calls of at most `rows_per_call`; `samples(positions)` parses them.

    `inputs`: one row a position, or None. `backend()`: the model, which may be opened when the first block is handed out.
    Complete rows reach `keep` when `flush_rows` have gathered or `flush_seconds`
    have passed, and also when anything (Ctrl-C too) ends the work early: the exception follows after they are kept.
    `advance(m)` is told of each m rows. A signal that yields a position twice or never is our bug: AssertionError.
    """
    buffer = _Buffer(signal.fields, keep, flush_rows, flush_seconds)
    try:
        for positions in _calls(blocks, buffer.flush, rows_per_call):
            given = None if inputs is None else inputs.take(positions)
            open_rows = np.ones(len(positions), dtype=bool)
            for piece in signal.rows(samples(positions), given, backend(), pool):
                index = np.asarray(piece.index, dtype=np.int64)
                _check(signal, piece, index, open_rows)
                open_rows[index] = False
                buffer.add(positions[index], piece)
                if advance is not None:
                    advance(len(index))
            left = int(open_rows.sum())
            assert left == 0, f"signal {signal.kind!r} never yielded {left} of {len(positions)} rows"
    finally:
        buffer.flush()


def _calls(blocks: Blocks, flush: Callable[[], None], most: int) -> Iterator[np.ndarray]:
    while (block := blocks(flush)) is not None:
        for start in range(0, len(block), most):
            yield block[start : start + most]


def _check(signal: Scorable, piece: Scored, index: np.ndarray, open_rows: np.ndarray) -> None:
    n = len(open_rows)
    where = f"signal {signal.kind!r}"
    assert len(piece.errors) == len(index), f"{where} yielded {len(index)} rows with {len(piece.errors)} errors"
    inside = len(index) == 0 or (index.min() >= 0 and index.max() < n)
    assert inside, f"{where} yielded a position outside 0 … {n - 1}"
    once = len(np.unique(index)) == len(index) and bool(open_rows[index].all())
    assert once, f"{where} yielded a position twice"
    for f in signal.fields:
        given = piece.values.get(f.name)
        right = given is not None and len(given) == len(index)
        assert right, f"{where}: field {f.name!r} is absent or has a wrong length"


class _Buffer:
    """Gathers pieces until they are worth a part."""

    def __init__(self, fields: Sequence[Field], keep: Keep, rows: int, seconds: float) -> None:
        self.fields, self.keep, self.rows, self.seconds = fields, keep, rows, seconds
        self.pieces: list[tuple[np.ndarray, Scored]] = []
        self.size = 0
        self.since = time.monotonic()

    def add(self, positions: np.ndarray, piece: Scored) -> None:
        if not len(positions):
            return
        self.pieces.append((positions, piece))
        self.size += len(positions)
        if self.size >= self.rows or time.monotonic() - self.since >= self.seconds:
            self.flush()

    def flush(self) -> None:
        pieces = self.pieces
        if pieces:
            try:
                self.keep(
                    np.concatenate([p for p, _ in pieces]),
                    {f.name: np.concatenate([np.asarray(s.values[f.name]) for _, s in pieces]) for f in self.fields},
                    [e for _, s in pieces for e in s.errors],
                )
            except Exception:
                self.pieces = []  # the last flush on the way out must not try again; after Ctrl-C in here it must
                raise
        self.pieces, self.size, self.since = [], 0, time.monotonic()
