"""The benchmark of selections by number of rows: its columns, its fit, and its page."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import selection_scale as scale


def test_larger_pools_repeat_a_block_with_new_values_and_skills() -> None:
    asked = {"loss": ["nll", "tokens"], "skills": ["leaf"], "skill": ["label"]}
    columns = scale.make_columns(asked, 3 * scale.BLOCK)
    nll, leaf = columns["loss"]["nll"], columns["skills"]["leaf"]
    assert len(columns) == len(nll) == 3 * scale.BLOCK
    assert (columns.digest[:-1] < columns.digest[1:]).all()
    assert nll[0] != nll[scale.BLOCK] == pytest.approx(nll[0], rel=0.03)
    assert len(np.unique(leaf)) == 3 * scale.BLOCK // scale.SKILL_ROWS


def test_a_method_is_measured() -> None:
    found = scale.measure_one("perplexity", 2000)
    assert 0 < found["seconds"] < 60 and 0 < found["columns"] <= found["peak"] < 10


def test_the_exponent_is_that_of_a_power_law() -> None:
    rows = (1000, 5000, 40_000)
    assert scale.exponent(rows, [3e-6 * r**1.4 for r in rows]) == pytest.approx(1.4)


def test_the_page_marks_what_exceeds_the_limits() -> None:
    def measured(seconds: float, added: float = 0.1) -> dict[str, float]:
        return {"seconds": seconds, "columns": 1.0, "peak": 1.0 + added}

    text = scale.page(
        {
            "fast": {1_300_000: measured(1.0), 2_600_000: measured(2.0)},
            "slow": {1_300_000: measured(1.0), 2_600_000: measured(4.0)},
            "large": {2_600_000: measured(1.0, 1.6)},
        },
        "the command",
    )
    assert "| `fast` | 1.00 (0.10) | 2.00 (0.10) | 1.00 | 1.00 |" in text
    assert "| `slow` | 1.00 (0.10) | **4.00 (0.10)** | **2.00** | 1.00 |" in text
    assert "| `large` | – | **1.00 (1.60)** | – | 1.00 |" in text
    assert "    the command\n" in text
