"""What a run has taken: scores and seconds, and the estimate from the first rows of a pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import runs
from tests.text_pools import Model, Nested, record, write_pool
from thresher.engine.meter import FirstRows, Meter
from thresher.pools import open_pool
from thresher.storage.columns import Store
from thresher.types import Budget


def test_the_first_64_rows_tell_how_long_a_pass_takes() -> None:
    first = FirstRows(1000, processes=2)
    assert first.advance(63, 3.0) is None
    # 80 rows in 4 s: 1,000 rows take 50 s, divided between two processes
    assert first.advance(17, 4.0) == pytest.approx(25.0)
    assert first.advance(100, 9.0) is None  # once


@pytest.mark.parametrize("pieces", [(40,), (64,), (10, 54), (100,)])
def test_a_pass_that_ends_with_its_first_rows_is_not_estimated(pieces: tuple[int, ...]) -> None:
    first = FirstRows(sum(pieces))
    assert all(first.advance(rows, 1.0) is None for rows in pieces)


def test_a_run_is_metered(tmp_path: Path) -> None:
    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(200)]))
    store, meter = Store(tmp_path / "store"), Meter()
    model = Model(kwargs={"seconds_per_row": 0.001})
    runs.select(pool, Nested(), Budget.parse("10"), model=model.handle, store=store, meter=meter)
    # three columns, at least a millisecond a row
    assert meter.scores == 600 and not meter.idle and meter.training_seconds == 0
    assert meter.scoring_seconds >= 0.6
    assert meter.estimated_scores == 600 and meter.estimated_seconds >= 0.6
    again = Meter()
    runs.select(pool, Nested(), Budget.parse("20"), model=model.handle, store=store, meter=again)
    assert again == Meter() and again.idle
