"""Normalisation of answers: which answers are equal."""

from __future__ import annotations

import pytest

from thresher.answers.metrics import anls, exact_match, relaxed_accuracy
from thresher.answers.normalise import normalise, number

SAME = [
    ("Yes.", "yes", " yes ", "YES", "yes!", "“Yes”", "**Yes**", "\nyes\t", "ｙｅｓ"),
    ("2", "two", "Two.", "2.0", "+2", "(2)", "２", "2."),
    ("12%", "0.12", "12.0%", ".12", "0.120"),
    ("1,200", "1200", "1200.00", "1,200."),
    ("21", "twenty-one", "twenty one", "Twenty One"),
    ("-3", "−3", "-3.0"),
    ("0", "zero", "-0", "0.00", "0%"),
    ("red square", "The red square.", "a  Red   square", "red, square"),
    ("a", "A", "A.", "(A)"),
    ("two dogs", "2 dogs", "the two dogs"),
    ("t-shirt", "T-shirt."),
    ("...", " ... "),
]
DIFFERENT = [
    ("yes", "no"),
    ("2", "3"),
    ("2", "two three"),
    ("12", "12%"),
    ("12%", "0.12%"),
    ("1.5", "15"),
    ("12", "1,2"),
    ("007", "7"),
    ("none", "0"),
    ("a", "b"),
    ("a", ""),
    ("...", "!!!"),
    ("red square", "square"),
    ("$5", "5"),
    ("10:30", "1030"),
    ("twenty", "twenty two"),
    ("one hundred", "100"),  # compounds end at 99: documented
    ("isn't", "is"),
]


@pytest.mark.parametrize("texts", SAME, ids=lambda t: t[0])
def test_equal_answers(texts: tuple[str, ...]) -> None:
    assert {normalise(t) for t in texts} == {normalise(texts[0])}
    assert all(exact_match(t, texts[0]) for t in texts)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_answers(a: str, b: str) -> None:
    assert normalise(a) != normalise(b)
    assert not exact_match(a, b)


def test_reported_examples() -> None:
    given = ("Yes.", " yes ", "YES", "2", "two", "12%", "0.12")
    assert [normalise(t) for t in given] == ["yes", "yes", "yes", "2", "2", "0.12", "0.12"]


def test_normalising_is_idempotent() -> None:
    for texts in (*SAME, *DIFFERENT):
        for text in texts:
            assert normalise(normalise(text)) == normalise(text), text


def test_empty_answer_is_never_correct() -> None:
    assert not exact_match("", "") and not exact_match("  ", "yes") and not exact_match("", "the")


def test_numbers() -> None:
    assert [
        number(t) for t in ("12%", "three", "1,000.5", "-2", "2 dogs", "", "nan", "inf", "1e5")
    ] == [
        0.12,
        3.0,
        1000.5,
        -2.0,
        None,
        None,
        None,
        None,
        None,
    ]


def test_relaxed_accuracy() -> None:
    """A number within 5% of the expected one; everything else exactly."""
    right = [
        ("105", "100"),
        ("95", "100"),
        ("0", "0"),
        ("-10.4", "-10"),
        ("13%", "0.125"),
        ("blue", "Blue."),
    ]
    wrong = [
        ("105.1", "100"),
        ("94.9", "100"),
        ("0.01", "0"),
        ("10", "-10"),
        ("12", "12%"),
        ("blue", "red"),
        ("about 100", "100"),
    ]
    assert all(relaxed_accuracy(a, b) for a, b in right)
    assert not any(relaxed_accuracy(a, b) for a, b in wrong)


def test_anls() -> None:
    assert anls("Hello", "hello ") == 1.0
    assert anls("abcd", "abce") == 0.75
    assert anls("ab", "ac") == 0.0  # a distance of one half is too much
    assert anls("abc", "abd") == pytest.approx(2 / 3)
    assert anls("", "abc") == 0.0
    assert anls("abcdefgh", "abc") == 0.0


def test_anls_matches_textbook_definition() -> None:
    import random

    def slow(a: str, b: str) -> int:
        rows = [list(range(len(b) + 1))]
        for i, x in enumerate(a):
            rows.append([i + 1])
            for j, y in enumerate(b):
                rows[-1].append(min(rows[-2][j + 1] + 1, rows[-1][j] + 1, rows[-2][j] + (x != y)))
        return rows[-1][-1]

    rng = random.Random(0)
    for _ in range(200):
        a, b = ("".join(rng.choice("abc") for _ in range(rng.randrange(9))) for _ in range(2))
        distance = slow(a, b) / max(len(a), len(b), 1)
        assert anls(a, b) == pytest.approx(1 - distance if distance < 0.5 else 0.0), (a, b)
