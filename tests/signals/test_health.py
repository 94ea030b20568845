"""What a user is told of a judge that does not judge, with numbers, and of one that does: nothing."""

from __future__ import annotations

import numpy as np

from thresher.signals.health import chosen_warnings, style_warnings, warnings


def test_a_judge_that_answers_gives_no_warning() -> None:
    rng = np.random.default_rng(0)
    assert warnings("ocr", rng.uniform(0, 5, 100).astype(np.float32), np.full(100, 0.97, np.float32)) == []


def test_a_constant_column_is_named_with_its_value() -> None:
    (said,) = warnings("ocr", np.full(1200, 2.5, np.float32), np.ones(1200, np.float32))
    assert said.startswith("ocr: ") and "1,200 rows" in said and "2.500" in said


def test_low_mass_is_named_with_its_mean_and_count() -> None:
    mass = np.concatenate([np.full(75, 0.1), np.full(25, 0.9)]).astype(np.float32)
    (said,) = warnings("ocr", np.linspace(0, 5, 100), mass)
    assert "30.0%" in said and "75 of 100" in said
    assert warnings("ocr", np.linspace(0, 5, 100), np.full(100, 0.51)) == []


def test_rows_without_a_score_do_not_count() -> None:
    score = np.array([np.nan, 1.0, 4.0])
    assert warnings("ocr", score, np.array([0.0, 0.9, 0.9])) == []
    assert warnings("ocr", np.array([np.nan]), np.array([0.0])) == ["ocr: no row has a score"]
    assert warnings("ocr", np.zeros(0), np.zeros(0)) == []


def test_one_row_is_not_a_constant_column() -> None:
    assert warnings("ocr", np.array([3.0]), np.array([0.9])) == []


def test_unparsable_generations_are_counted() -> None:
    (said,) = style_warnings(np.array([True, False, True, False]))
    assert "2 of 4" in said and "50.0%" in said
    assert style_warnings(np.ones(3, bool)) == []


def test_styles_that_are_the_same_everywhere_are_told() -> None:
    same = np.tile([True, False, True], (10, 1))
    (said,) = chosen_warnings(("a", "b", "c"), same)
    assert "10 rows" in said and "(a, c)" in said
    same[0, 1] = True
    assert chosen_warnings(("a", "b", "c"), same) == []
