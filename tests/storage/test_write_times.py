"""When the rows of a part were written, also after parts were merged."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from thresher.storage.write_times import FAILED, WRITTEN, metadata, row_times, write_time


def part(errors: list[str], given: dict[bytes, bytes] | None) -> pa.Table:
    return pa.table({"error": errors}).replace_schema_metadata(given)


def test_a_part_has_one_time() -> None:
    table = part(["", "a", ""], metadata(7))
    assert write_time(table) == 7 and row_times([table]).tolist() == [7, 7, 7]


def test_a_part_without_a_time_is_the_oldest() -> None:
    assert row_times([part(["", "a"], None)]).tolist() == [0, 0]


def test_errors_of_a_merged_part_keep_their_times() -> None:
    table = part(["", "a", "", "b", "c"], metadata(9, np.array([5, 9, 5])))
    assert write_time(table) == 9 and row_times([table]).tolist() == [9, 5, 9, 9, 5]


def test_times_that_are_the_part_s_are_not_written() -> None:
    for failed_at in (None, np.array([], np.int64), np.array([9, 9])):
        assert metadata(9, failed_at) == {WRITTEN: b"9"}
    assert FAILED in metadata(9, np.array([9, 8]))
