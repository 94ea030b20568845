"""`distinct_texts` gives what NumPy finds by sorting."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.stats.distinct import distinct_texts


@pytest.mark.parametrize(
    "values",
    [
        np.array(["b", "a", "", "b", "Ä", "\ud800", "aa"], object),
        np.array(["b", "a", "b"]),
        np.array([], object),
        np.array([True, False, True]),
        np.array([10, 9, 9]),
        np.array(["1", 1, None], object),
    ],
)
def test_as_unique(values: np.ndarray) -> None:
    names, code = distinct_texts(values)
    expected, inverse = np.unique(values.astype(str), return_inverse=True)
    assert list(names) == expected.tolist() and code.tolist() == inverse.tolist()
    assert code.dtype == np.int64
