"""Missing skills, skills of rows and their vectors: prompts, parsing and fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.methods.planted_columns import digests
from tests.signals.given_columns import TEACHER, Given
from thresher.signals.gap import Gap
from thresher.signals.missing_skill import MissingSkill
from thresher.signals.other_answers import OtherAnswers
from thresher.signals.rationale import Rationale
from thresher.signals.row_skills import RowSkills
from thresher.signals.skill_vector import SkillVector, decoded
from thresher.types import Columns, ImageRef, Sample, Scored, Turn, seeded_ties


class Says:
    """Writes what `of(prompt)` is. `finished`: whether it ended by itself."""

    def __init__(self, of: Callable[[str], str], finished: bool = True) -> None:
        self.of, self.finished = of, finished
        self.prompts: list[str] = []
        self.embedded: list[str] = []

    def generate(self, samples: Sequence[Sample], pool: Any, most: int) -> Iterator[Scored]:
        for i in reversed(range(len(samples))):
            assert samples[i].turns[-1].role == "assistant"
            prompt = samples[i].turns[-2].text
            self.prompts.append(prompt)
            values = {
                "text": np.array([self.of(prompt)], object),
                "tokens": np.array([1]),
                "finished": np.array([self.finished]),
            }
            yield Scored(np.array([i]), values, [""])

    def embed(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        self.embedded += texts
        return [
            "too long" if "long" in t else np.array([1.0, len(t)]) / np.hypot(1, len(t))
            for t in texts
        ]


def columns(**values: Any) -> Columns:
    n = len(next(iter(next(iter(values.values())).values())))
    digest = np.sort(digests(n))
    return Columns(
        digest, seeded_ties(digest, 0), np.arange(n, dtype=np.int32) // 3, ("a", "b"), values
    )


def texts(*values: str) -> np.ndarray:
    return np.array(values, object)


def scored(
    signal: Any, samples: Sequence[Sample], given: Columns | None, backend: Any
) -> dict[str, list[Any]]:
    out: dict[str, dict[int, Any]] = {f.name: {} for f in signal.fields}
    for piece in signal.rows(samples, given, backend, None):
        for name in [f.name for f in signal.fields]:
            out[name].update(
                zip(piece.index.tolist(), np.asarray(piece.values[name]).tolist(), strict=True)
            )
        out.setdefault("error", {}).update(zip(piece.index.tolist(), piece.errors, strict=True))
    return {name: [values[i] for i in range(len(samples))] for name, values in out.items()}


def test_rationale_is_scored_like_an_evaluation() -> None:
    rows = [
        Sample("0", (Turn("user", "How many?"), Turn("assistant", "Two"))),
        Sample("1", (Turn("user", "Which?\nA. red\nB. blue"), Turn("assistant", "B"))),
        Sample("2", (Turn("user", "Is it?"), Turn("assistant", "No"))),
        Sample("3", (Turn("user", "What?"), Turn("assistant", "I look. So the answer is red."))),
        Sample("4", (Turn("user", "Why?"), Turn("assistant", "so"))),
    ]
    values = {
        "How many?": "1. I see a.\n2. I see b.\nAnswer: 2.",
        "Which?": "It is the sky.\nAnswer: (B) blue",
        "Is it?": "It is there. So the answer is yes.",
        "What?": "Answer: Red",
        "Why?": "",
    }
    found = scored(Rationale(TEACHER), rows, None, Says(lambda p: values[p.split("\n")[0]]))
    assert found["right"] == [True, True, False, True, False]
    assert found["answer"] == ["2", "B", "Yes", "Red", ""]
    assert found["expected"] == ["Two", "B", "No", "red", "so"]
    assert found["steps"] == [2, 1, 1, 1, 0]


def test_truncated_answer_and_reasoning_are_no_answer() -> None:
    rows = [Sample(str(i), (Turn("user", f"How {i}?"), Turn("assistant", "3"))) for i in range(4)]
    messages = [
        "<think>\nIs the answer 2? The answer is 3.",
        "<think>Is the answer 2?</think>\nI count. Answer: 3",
        "1. I see two dogs.\n2. I see 3",
        "Answer: 3\nBecause I see one here and",
    ]
    found = scored(Rationale(TEACHER), rows, None, Says(lambda p: messages[int(p[4])]))
    assert found["answer"] == ["", "3", "I see 3", "3"] and found["right"] == [
        False,
        True,
        False,
        True,
    ]
    found = scored(
        Rationale(TEACHER), rows, None, Says(lambda p: messages[int(p[4])], finished=False)
    )
    assert found["answer"] == ["", "", "", "3"] and found["right"] == [False, False, False, True]


def test_other_answers_are_the_most_frequent_of_the_source() -> None:
    given = columns(rationale={"expected": texts("Red", "red", "blue", "x" * 200, "7", "8")})
    found = OtherAnswers(Given("r"), most=1).pool(given)["answers"].tolist()  # type: ignore[arg-type]
    assert found == ['["Red"]'] * 3 + ['["7"]'] * 3


def mistakes() -> Columns:
    return columns(
        rationale={"answer": texts("2", "3"), "expected": texts("3", "4")},
        mistake={
            "step": np.array([1, 0]),
            "text": texts("I see {two}.", "Four."),
            "before": texts("a\nb", ""),
        },
    )


def test_missing_skill_prompt_and_parsing() -> None:
    rows = [
        Sample(str(i), (Turn("user", f"<image>\nHow {i}?"), Turn("assistant", "3")))
        for i in range(2)
    ]
    teacher = Says(
        lambda p: (
            "Counting things.\n\nQuestion: another" if "How 0?" in p else "?!\n\nQuestion: another"
        )
    )
    found = scored(MissingSkill(TEACHER, Given("r"), Given("m")), rows, mistakes(), teacher)  # type: ignore[arg-type]
    assert found["skill"] == ["counting things", ""]
    (prompt,) = [p for p in teacher.prompts if "How 0?" in p]
    assert prompt.endswith(
        "Question: How 0?\nRight answer: 3\nStudent's answer: 2\nSteps before the mistake: a b\n"
        "Mistaken step: I see {two}.\nMissing skill:"
    )
    (other,) = [p for p in teacher.prompts if "How 1?" in p]
    assert "Steps before the mistake: (none)" in other


def test_search_queries() -> None:
    given = columns(
        mistake={"text": texts("I see two.", "Four.", "")},
        missing_skill={"skill": texts("counting things", "", "")},
    )
    skill = Gap(Given("m"), Given("s")).pool(given)  # type: ignore[arg-type]
    assert skill["skills"].tolist() == ["counting things", "Four.", ""] and skill[
        "fallback"
    ].tolist() == [
        False,
        True,
        False,
    ]
    step = Gap(Given("m"), None).pool(given)  # type: ignore[arg-type]
    assert step["skills"].tolist() == ["I see two.", "Four.", ""] and not step["fallback"].any()


def test_row_skills_prompt_has_image_and_answer() -> None:
    row = Sample(
        "0", (Turn("user", "<image>\nHow many?"), Turn("assistant", "3")), (ImageRef("a.png"),)
    )
    teacher = Says(lambda p: "1. Counting things\n2. Seeing\n3. Naming colours\n4. Reading")
    signal = RowSkills(TEACHER, most=2)
    found = scored(signal, [row], None, teacher)
    assert found["skills"] == ["counting things\nseeing"] and found["count"] == [2]
    (prompt,) = teacher.prompts
    assert prompt.startswith("Question: <image>\nHow many? Answer: 3\n") and "at most 2," in prompt


def test_equal_texts_are_embedded_once_and_no_text_has_no_vector() -> None:
    rows = [Sample(str(i), ()) for i in range(5)]
    given = columns(
        text={"skills": texts("counting", "", "counting", "a long one", "naming\ncolours")}
    )
    teacher = Says(str)
    found = scored(SkillVector(TEACHER, Given("t")), rows, given, teacher)  # type: ignore[arg-type]
    assert teacher.embedded == ["counting", "a long one", "naming; colours"]
    assert found["error"] == ["", "", "", "too long", ""]
    vectors = decoded(np.array(found["vector"], object))
    assert (
        vectors.shape == (5, 2) and np.array_equal(vectors[0], vectors[2]) and not vectors[1].any()
    )
    assert np.linalg.norm(vectors[[0, 4]], axis=1) == pytest.approx([1, 1], abs=1e-3)
