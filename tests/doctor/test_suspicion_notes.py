"""Notes about a list of suspects, on synthetic columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.suspicion_columns import CHECKED, columns, planted
from thresher.doctor.suspicion_notes import suspicion_notes


def notes(helped: float, helped_if_suspected: float) -> str:
    """Those of 30 skills of 40 rows, 10 of which have a high loss; `helped`: shares of rows whose
    answer the image makes likelier."""
    rng = np.random.default_rng(6)
    loss = np.concatenate([planted(40, 10, seed) for seed in range(30)])
    likelier = rng.random(len(loss)) < np.where(loss < 3, helped, helped_if_suspected)
    made = columns(loss, np.repeat(np.arange(30), 40), np.where(likelier, 1.0, -1.0))
    full = replace(made, values={**made.values, "suspicion": CHECKED.pool(made)})
    return " ".join(map(str, suspicion_notes(full)))


@pytest.mark.parametrize("of_suspected", [0.0, 0.28])
def test_a_model_that_cannot_read_the_images_is_named_as_the_reason(of_suspected: float) -> None:
    text = notes(0.28, of_suspected)
    assert "The visual input makes the answer more likely in only 2" in text
    assert "(at least 65% are needed)" in text and "unable to read it" in text
    assert "no suspicion is above 0.4" in text and "as if" not in text


def test_images_that_confirm_or_clear_the_suspected_rows() -> None:
    confirmed = notes(0.9, 0.0)
    assert "in 0% of the suspected rows and in 9" in confirmed
    assert "as if 100% of the suspected rows were wrong" in confirmed
    assert "unable" not in confirmed and "hardly any" not in confirmed
    cleared = notes(0.9, 0.9)
    assert "perhaps hardly any are. So no suspicion is high" in cleared and "unable" not in cleared
