"""Columns of files as arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from thresher.storage.arrow_values import column_array


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", None, "a"]), np.array(["a", "", "a"], object)),
        (pa.array(["a", None], pa.large_string()), np.array(["a", ""], object)),
        (pa.array(["a", None]).dictionary_encode(), np.array(["a", ""], object)),
        (pa.array([True, None, False]), np.array([True, False, False])),
        (pa.array([True, False]), np.array([True, False])),
        (pa.array([1, 2], pa.int32()), np.array([1, 2], np.int32)),
        (pa.array([1, None], pa.int32()), np.array([1, np.nan])),
        (pa.array([1.5, None], pa.float32()), np.array([1.5, np.nan], np.float32)),
        (pa.array([], pa.float64()), np.array([], np.float64)),
    ],
)
def test_column_array(column: pa.Array, expected: np.ndarray) -> None:
    for chunks in ([column], [column[:1], column[1:]]):
        found = column_array(pa.chunked_array(chunks))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
