"""What an embeddings server gets of each part of a row."""

from __future__ import annotations

import pytest

from thresher.backends.openai.messages import messages
from thresher.backends.openai.row_parts import Part, part_of, text_only
from thresher.types import ImageRef, Sample, Turn

A, B = ImageRef("a.png", size=1), ImageRef("b.png", size=1)
PLAIN = Sample("1", (Turn("user", "Is it red?"), Turn("assistant", "Yes.")))
LONG = Sample(
    "2",
    (
        Turn("system", "Be brief."),
        Turn("user", "<image>\nWhat is it?"),
        Turn("assistant", "A ball."),
        Turn("user", "And <image> here?"),
        Turn("assistant", "Another one."),
    ),
    (A, B),
)
PICTURE = Sample("3", (Turn("user", "<image>"), Turn("assistant", "")), (A,))
IMAGE_A, IMAGE_B = ({"type": "image_url", "image_url": {"url": n}} for n in ("a.png", "b.png"))


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def sent(sample: Sample, part: Part) -> object:
    """The content of the only message."""
    found = part_of(sample, part)
    if found is None:
        return None
    (message,) = messages(found, lambda ref: ref.path)
    assert message["role"] == "user"
    return message["content"]


@pytest.mark.parametrize(
    ("sample", "part", "content"),
    [
        (PLAIN, "question", "Is it red?"),
        (PLAIN, "answer", "Yes."),
        (PLAIN, "image", None),
        (PLAIN, "all", "Is it red?\nYes."),
        (
            LONG,
            "question",
            [
                text("Be brief."),
                IMAGE_A,
                text("What is it?\nA ball.\nAnd "),
                IMAGE_B,
                text(" here?"),
            ],
        ),
        (LONG, "answer", "A ball.\nAnother one."),
        (LONG, "image", [IMAGE_A, IMAGE_B]),
        (
            LONG,
            "all",
            [
                text("Be brief."),
                IMAGE_A,
                text("What is it?\nA ball.\nAnd "),
                IMAGE_B,
                text(" here?\nAnother one."),
            ],
        ),
        (PICTURE, "question", [IMAGE_A]),
        (PICTURE, "answer", None),
    ],
)
def test_one_message(sample: Sample, part: Part, content: object) -> None:
    assert sent(sample, part) == content


@pytest.mark.parametrize(
    ("sample", "part", "expected"),
    [
        (PLAIN, "question", "Is it red?"),
        (LONG, "question", "Be brief.\nWhat is it?\nA ball.\nAnd here?"),
        (LONG, "answer", "A ball.\nAnother one."),
        (LONG, "image", None),
        (LONG, "all", "Be brief.\nWhat is it?\nA ball.\nAnd here?\nAnother one."),
        (PICTURE, "question", None),
    ],
)
def test_texts_only(sample: Sample, part: Part, expected: str | None) -> None:
    assert text_only(sample, part) == expected


def test_a_row_without_an_answer_is_all_question() -> None:
    asked = Sample("4", (Turn("user", "Why?"),))
    assert sent(asked, "question") == "Why?" and sent(asked, "answer") is None
