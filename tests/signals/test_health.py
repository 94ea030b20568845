"""Warnings about useless judges, with numbers; none for useful ones."""

from __future__ import annotations

import numpy as np

from thresher.signals.health import chosen_warnings, parse_warnings, style_warnings, warnings


def test_a_judge_that_answers_gives_no_warning() -> None:
    rng = np.random.default_rng(0)
    assert (
        warnings(
            {"ocr": rng.uniform(0, 5, 100).astype(np.float32)},
            {"ocr": np.full(100, 0.97, np.float32)},
        )
        == []
    )


def test_a_constant_column_is_named_with_its_value() -> None:
    scores = {
        "ocr": np.full(1200, 2.5, np.float32),
        "icl": np.linspace(0, 5, 1200),
        "stem": np.full(1200, 1.0),
    }
    (text,) = warnings(scores, {"ocr": np.ones(1200, np.float32)})
    assert "all 1,200 rows" in text and text.endswith(
        "2 of 3 capabilities: ocr (2.500), stem (1.000)"
    )


def test_low_mass_is_named_with_its_mean_and_count() -> None:
    mass = np.concatenate([np.full(75, 0.1), np.full(25, 0.9)]).astype(np.float32)
    scores = {
        "ocr": np.linspace(0, 5, 100),
        "icl": np.linspace(0, 5, 100),
        "stem": np.linspace(0, 5, 100),
    }
    (text,) = warnings(scores, {"ocr": mass, "icl": np.full(100, 0.51), "stem": np.full(100, 0.01)})
    assert (
        "ocr 30.0%, stem 1.0%" in text
        and "175 of 200 answers" in text
        and "2 of 3 capabilities" in text
    )
    assert warnings({"ocr": scores["ocr"]}, {"ocr": np.full(100, 0.51)}) == []


def test_every_problem_has_a_sentence() -> None:
    flat = np.full(10, 2.0)
    message = warnings(
        {"ocr": flat, "icl": np.full(10, np.nan)}, {"ocr": np.full(10, 0.1), "icl": np.zeros(10)}
    )
    assert [text.split(" for ")[0].split(" ")[0] for text in message] == ["No", "The", "The"]


def test_rows_without_a_score_do_not_count() -> None:
    score = np.array([np.nan, 1.0, 4.0])
    assert warnings({"ocr": score}, {"ocr": np.array([0.0, 0.9, 0.9])}) == []
    assert warnings({"ocr": np.array([np.nan])}, {"ocr": np.array([0.0])}) == [
        "No row has a score for ocr"
    ]
    assert warnings({"ocr": np.zeros(0)}, {"ocr": np.zeros(0)}) == []


def test_one_row_is_not_a_constant_column() -> None:
    assert warnings({"ocr": np.array([3.0])}, {"ocr": np.array([0.9])}) == []


def test_invalid_generated_scores_are_counted() -> None:
    parsed = {
        "ocr": np.array([True, False, False]),
        "icl": np.ones(3, bool),
        "stem": np.array([True, True, False]),
    }
    texts = {name: np.array(["3", "", "a" * 200], object) for name in parsed}
    (text,) = parse_warnings(parsed, texts)
    assert (
        text.startswith("3 of 9 answers give no clear number")
        and "ocr 2, stem 1. Such as “" in text
    )
    assert parse_warnings({"icl": parsed["icl"]}, texts) == [] == parse_warnings({}, {})


def test_unparsable_generations_are_counted() -> None:
    (text,) = style_warnings(np.array([True, False, True, False]))
    assert "2 of 4" in text and "50.0%" in text
    assert style_warnings(np.ones(3, bool)) == []


def test_constant_styles_are_reported() -> None:
    same = np.tile([True, False, True], (10, 1))
    (text,) = chosen_warnings(("a", "b", "c"), same)
    assert "10 rows" in text and "(a, c)" in text
    same[0, 1] = True
    assert chosen_warnings(("a", "b", "c"), same) == []
