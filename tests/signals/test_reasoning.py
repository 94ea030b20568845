"""Splitting of reasoning into steps, for various layouts."""

from __future__ import annotations

import pytest

from thresher.signals.rationale import strip_answer_instruction, with_instruction
from thresher.signals.reasoning import split_reasoning, stated_answer
from thresher.signals.skill_text import read_skills
from thresher.types import ImageRef, Sample, Turn

CASES = {
    "numbered": (
        "1. Look at it.\n2) It is red.\n(3) So be it.\nAnswer: red",
        ("Look at it.", "It is red.", "So be it."),
        "red",
    ),
    "step words": (
        "Step 1: Look.\nStep 2: It is red.\n\nFinal answer: (B) red",
        ("Look.", "It is red."),
        "(B) red",
    ),
    "markdown": (
        "**Step 1:** Look.\n**Step 2:** It is red.\n**Answer:** B",
        ("Look.", "It is red."),
        "B",
    ),
    "preamble": ("Let's think:\n1. a b\n2. c d\nThe answer is 4.", ("a b", "c d"), "4"),
    "in one line": (
        "1. The cat is here. 2. The dog is there. So the answer is 2.",
        ("The cat is here.", "The dog is there."),
        "2",
    ),
    "bullets": (
        "- first\n- second, e.g. A big one\n  goes on\nSo the answer is yes.",
        ("first", ("second, e.g. A big one goes on")),
        "yes",
    ),
    "lines": ("one line\nanother\nred", ("one line", "another"), "red"),
    "sentences": (
        "The bar is 3.5 high. Mr. Smith is left. So the answer is Mr. Smith.",
        ("The bar is 3.5 high.", "Mr. Smith is left."),
        "Mr. Smith",
    ),
    "answer first": ("The answer is A. It is the cat.", ("It is the cat.",), "A"),
    "answer in the last item": (
        "1. a b\n2. c d\n3. Therefore the correct answer is: **2**.",
        ("a b", "c d"),
        "2",
    ),
    "windows lines": ("1. a\r\n2. b\r\nAnswer: c", ("a", "b"), "c"),
    "only an answer": ("red", ("red",), "red"),
    "only a stated answer": ("Answer: B", ("Answer: B",), "B"),
    "nothing": (" \n ", (), ""),
    "a number is no list": ("I see 3. Then I see 4.", ("I see 3.",), "Then I see 4"),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_and_answer(name: str) -> None:
    text, steps, answer = CASES[name]
    found = split_reasoning(text)
    assert (found.steps, found.answer) == (steps, answer)


def test_final_answer_with_or_without_a_label() -> None:
    assert stated_answer("I see two. So the answer is 2.") == "2"
    assert stated_answer("The red cross is left. It is small.") == (
        "The red cross is left. It is small."
    )


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("<image>\nWhat?\nAnswer using a single word or phrase.", "<image>\nWhat?"),
        ("What? Answer the question using a single word or phrase.", "What?"),
        (
            "Which?\nA. red\nB. blue\nAnswer with the option's letter from the given choices "
            "directly.",
            "Which?\nA. red\nB. blue",
        ),
        ("Is it?\nAnswer with yes or no.", "Is it?"),
        ("What is the answer with a sum?", "What is the answer with a sum?"),
    ],
)
def test_brief_answer_instruction_is_removed(asked: str, kept: str) -> None:
    assert strip_answer_instruction(asked) == kept


def test_student_prompt_contains_the_context() -> None:
    turns = (
        Turn("system", "Be kind."),
        Turn("user", "<image>\nHow many?"),
        Turn("assistant", "Two."),
        Turn("user", "Which colour?\nAnswer with one word."),
        Turn("assistant", "Red."),
    )
    row = with_instruction(Sample("7", turns, (ImageRef("a.png"),)), "\nThink.")
    assert [t.text for t in row.turns] == [
        "Be kind.",
        "<image>\nHow many?",
        "Two.",
        "Which colour?\nThink.",
        "-",
    ]
    assert row.images == (ImageRef("a.png"),) and row.turns[-1].role == "assistant"


@pytest.mark.parametrize(
    ("text", "skills"),
    [
        ("1. Counting objects.\n2. Reading digits", ("counting objects", "reading digits")),
        ("Skills: counting objects, reading digits", ("counting objects", "reading digits")),
        ("- Counting objects\n- counting  objects", ("counting objects",)),
        ("Missing skill: counting objects", ("counting objects",)),
        ("a\nb\n1\n?", ()),
        ("No", ()),
        ("word " * 13, ()),
        ("", ()),
    ],
)
def test_skills_out_of_free_text(text: str, skills: tuple[str, ...]) -> None:
    assert read_skills(text, 3) == skills


def test_number_of_skills_is_limited() -> None:
    assert read_skills("one thing\ntwo things\nthree things", 2) == ("one thing", "two things")
