"""What a run has taken: scores and seconds, and the estimate from the first rows of a pass."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.text_pools import HighestLoss, Model, Nested, record, write_pool
from thresher.engine.meter import FirstRows, Meter
from thresher.errors import Notice
from thresher.pools import open_pool
from thresher.storage import retries
from thresher.storage.columns import Store
from thresher.storage.mirrored import MirroredStore
from thresher.storage.remote_folder import RemoteFolder
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


def test_waiting_for_the_store_s_server_is_no_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    pool = open_pool(write_pool(tmp_path / "pool.json", [record(i) for i in range(100)]))
    store = MirroredStore(RemoteFolder(f"memory://{uuid.uuid4().hex}/store"), tmp_path / "mirror")
    monkeypatch.setattr(retries, "MAX_WAIT", 0.01)
    kind, failed = type(store.remote._fs), []
    put = kind.put_file

    def put_file(*given: Any, **options: Any) -> Any:
        """The server is away for half a second when the first rows are uploaded."""
        if not failed:
            time.sleep(0.5)
            failed.append(given)
            raise ConnectionError("connection refused")
        return put(*given, **options)

    monkeypatch.setattr(kind, "put_file", put_file)
    meter, began = Meter(), time.monotonic()
    options = {"model": Model().handle, "store": store, "meter": meter}
    with pytest.warns(Notice, match="does not answer"):
        runs.select(pool, HighestLoss(), Budget.parse("10"), **options)  # type: ignore[arg-type]
    took = time.monotonic() - began
    assert failed and meter.waiting_seconds >= 0.5
    assert meter.scores == 100 and 0 < meter.scoring_seconds <= took - 0.5
    (column,) = (store.root / "columns").iterdir()
    assert store.cost(column.name) == pytest.approx(meter.scoring_seconds / 100, abs=1e-5)
