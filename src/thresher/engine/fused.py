"""Several row signals in one pass: what the engine sees when a model answers many questions about a row at once.

To the engine it is one row signal whose fields are everybody's, named "0.score", "1.score" …; `split` takes its results
apart again, so that each signal has its own column. It stores nothing and has no identity of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thresher.types import Capability, Columns, Field, Sample, SampleSource, Scored, SharedSignal, Signal

_ERROR = "error"


@dataclass(frozen=True)
class Together:
    """`signals`: at least one, all of one `together()`."""

    signals: tuple[SharedSignal, ...]

    kind = "together"
    version = 0

    @property
    def fields(self) -> tuple[Field, ...]:
        own = [Field(f"{i}.{f.name}", f.dtype, f.meaning) for i, s in enumerate(self.signals) for f in s.fields]
        return (*own, *(Field(f"{i}.{_ERROR}", "str", "why not, or nothing") for i in range(len(self.signals))))

    @property
    def needs(self) -> Capability:
        return self.signals[0].needs

    def inputs(self) -> Mapping[str, Signal]:
        return self.signals[0].inputs()

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        """A row's error is the first of its signals' errors; each signal's own stays with its values."""
        for pieces in self.signals[0].rows_together(self.signals, samples, inputs, backend, pool):
            assert len(pieces) == len(self.signals), f"{self.signals[0].kind!r} answered for {len(pieces)} signals"
            values: dict[str, np.ndarray] = {}
            for i, (signal, piece) in enumerate(zip(self.signals, pieces, strict=True)):
                assert np.array_equal(piece.index, pieces[0].index), "signals asked together answer for the same rows"
                for f in signal.fields:
                    values[f"{i}.{f.name}"] = piece.values[f.name]
                values[f"{i}.{_ERROR}"] = np.array(piece.errors, dtype=object)
            errors = [next((e for e in row if e), "") for row in zip(*(p.errors for p in pieces), strict=True)]
            yield Scored(pieces[0].index, values, errors)

    def split(self, values: Mapping[str, np.ndarray]) -> list[tuple[dict[str, np.ndarray], list[str]]]:
        """(field -> array, errors) of each signal, out of values that came from `rows`."""
        out = []
        for i, signal in enumerate(self.signals):
            own = {f.name: values[f"{i}.{f.name}"] for f in signal.fields}
            out.append((own, [str(e) for e in values[f"{i}.{_ERROR}"]]))
        return out
