"""Names of skills: what the model is told, which answers are names, and which skill gets one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from thresher.signals.embedding import Embedding
from thresher.signals.skill_names import SkillExamples, named_skills, read_name
from thresher.signals.skills import Skills
from thresher.types import (
    IMAGE_PLACEHOLDER,
    Columns,
    ModelIdentity,
    Sample,
    Turn,
    digests_to_array,
    seeded_ties,
)

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
SKILLS = Skills(Embedding(MODEL), Embedding(MODEL, part="answer"))


def columns(leaf: Sequence[int], typicality: Sequence[float]) -> Columns:
    n = len(leaf)
    digest = np.sort(digests_to_array([hashlib.sha256(b"%d" % i).digest() for i in range(n)]))
    skills = {
        "leaf": np.array(leaf, np.int32),
        "typicality": np.array(typicality, np.float32),
        "words": np.array([f"words of {k}" for k in leaf], object),
    }
    return Columns(digest, seeded_ties(digest, 0), np.zeros(n, np.int32), ("",), {"skills": skills})


def samples(rows: np.ndarray) -> list[Sample]:
    return [
        Sample(
            str(i),
            (
                Turn("system", "Be brief."),
                Turn("user", f"{IMAGE_PLACEHOLDER}\nWhat is\n{i}?"),
                Turn("assistant", "x" * 300 if i == 5 else f"It is {i}."),
            ),
            (),
            "",
        )
        for i in rows.tolist()
    ]


def test_the_most_typical_row_carries_the_examples_of_its_skill() -> None:
    given = columns([0, 1, 0, 1, 0, 1], [0.1, 0.9, 0.8, 0.2, 0.5, 0.3])
    found = SkillExamples(SKILLS).pool_rows(given, samples)
    assert np.flatnonzero(found["chosen"]).tolist() == [1, 2]
    assert found["words"].tolist() == ["", "words of 1", "words of 0", "", "", ""]
    assert found["examples"][2] == "\n\n".join(
        f"Question: What is {i}?\nAnswer: It is {i}." for i in (2, 4, 0)
    )
    assert found["examples"][1].count("x") == 200  # a long answer is cut
    empty = SkillExamples(SKILLS).pool_rows(columns([], []), samples)
    assert all(len(values) == 0 for values in empty.values())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Counting red objects", "counting red objects"),
        ("**Skill:** reading a clock face.\nIt needs ...", "reading a clock face"),
        ("The skill is: comparing two bar heights", "comparing two bar heights"),
        ("counting", ""),
        ("counting all of the red objects", ""),
        ("counting 3 objects", ""),
        ("", ""),
        ("<think>maybe counting red objects", ""),
    ],
)
def test_only_three_to_five_words_are_a_name(text: str, name: str) -> None:
    assert read_name(text) == name


def test_a_name_belongs_to_one_skill_and_others_keep_their_words() -> None:
    """Skills 0 and 2 are called the same: the larger one, 2, gets the name."""
    leaf = np.array([0, 2, 2, 2, 1, 1, 0])
    words = np.array([f"words {k}" for k in leaf.tolist()], object)
    chosen = np.array([True, True, False, False, True, False, False])
    names = np.array(["counting red things", "counting red things", "", "", "", "", ""], object)
    labels, named, every = named_skills(leaf, words, chosen, names)
    assert labels[leaf == 2].tolist() == ["counting red things"] * 3
    assert labels[leaf != 2].tolist() == words[leaf != 2].tolist()
    assert (named, every) == (1, 3)
    nothing = np.zeros(0, np.int64)
    assert named_skills(nothing, words[:0], chosen[:0], names[:0])[1:] == (0, 0)
