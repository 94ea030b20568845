"""Recognising the candidate answers of a row and their form."""

from __future__ import annotations

import pytest

from thresher.answers.candidates import candidates, expected, parse_options, question
from thresher.types import Sample, Turn


def row(asked: str, answer: str) -> Sample:
    return Sample("0", (Turn("user", asked), Turn("assistant", answer)))


LETTERS = "<image>\nWhat is it?\nA. a cat\nB. a dog\nC. 12 mice\nAnswer with the option's letter."
INLINE = "Which one? (A) red (B) light blue, (C) green"
LISTED = "What colour is it? Choose from: red, light blue or green."

KNOWN = [
    ("Is it red?", "yes", ("yes", "no")),
    ("Is it red?", "No.", ("Yes.", "No.")),
    ("Is it red?", "YES", ("YES", "NO")),
    ("Is this statement true or false? It is red.", "false", ("true", "false")),
    (LETTERS, "B", ("A", "B", "C")),
    (LETTERS, "(b)", ("(a)", "(b)", "(c)")),
    (LETTERS, "B.", ("A.", "B.", "C.")),
    (LETTERS, "B. a dog", ("A. a cat", "B. a dog", "C. 12 mice")),
    (LETTERS, "A dog.", ("A cat.", "A dog.", "12 mice.")),
    (LETTERS, "a dog", ("a cat", "a dog", "12 mice")),
    (INLINE, "C", ("A", "B", "C")),
    (INLINE, "(B)", ("(A)", "(B)", "(C)")),
    (INLINE, "light blue", ("red", "light blue", "green")),
    (LISTED, "Green", ("Red", "Light blue", "Green")),
    ("Options: yes; maybe; never\nIs it?", "maybe", ("yes", "maybe", "never")),
]
UNKNOWN = [
    ("What colour is it?", "red"),
    ("Is it red or blue?", "red"),  # not certain enough: other answers may be right
    (LETTERS, "D"),
    (LETTERS, "B. a cat"),  # letter and text disagree
    (LETTERS, "a horse"),
    (LISTED, "purple"),
    ("Vitamin A. What is B. about?", "Carrots"),
    ("A. Only one option", "A"),
    ("Is it red?", "Yes, it is red."),
    ("What?", ""),
]


@pytest.mark.parametrize(("asked", "answer", "texts"), KNOWN)
def test_recognised(asked: str, answer: str, texts: tuple[str, ...]) -> None:
    found = candidates(row(asked, answer))
    assert found is not None and found.texts == texts
    assert answer in found.texts


@pytest.mark.parametrize(("asked", "answer"), UNKNOWN)
def test_not_recognised(asked: str, answer: str) -> None:
    assert candidates(row(asked, answer)) is None


def test_candidates_do_not_depend_on_which_one_is_correct() -> None:
    """Only the form of the expected answer may be used: the candidates may not say which one is
    right."""
    for asked, answers in (
        (LETTERS, ("A", "B", "C")),
        (INLINE, ("red", "green")),
        ("Is it?", ("Yes.", "No.")),
    ):
        assert len({candidates(row(asked, a)).texts for a in answers}) == 1  # type: ignore[union-attr]


def test_last_run_of_options_is_used() -> None:
    assert parse_options("Example: A. x\nB. y\nNow:\nA. one\nB. two\nC. three")[1] == (
        "one",
        "two",
        "three",
    )


def test_last_answer_is_expected() -> None:
    chat = (
        Turn("system", "Be brief."),
        Turn("user", "What is it?"),
        Turn("assistant", "A cat."),
        Turn("user", "Is it red?"),
        Turn("assistant", " No. "),
        Turn("user", "Sure?"),
    )
    sample = Sample("0", chat)
    assert (question(sample), expected(sample)) == ("Is it red?", "No.")
    assert candidates(sample).texts == ("Yes.", "No.")  # type: ignore[union-attr]
