"""Parsing of one record: texts, images, problems that prevent scoring, and harmless oddities."""

from __future__ import annotations

from typing import Any

import pytest

from thresher.pools import llava
from thresher.pools.llava import Parsed, parse
from thresher.types import ImageRef, Sample, Turn, row_digest


def turns(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"from": role, "value": value} for role, value in pairs]


QA = turns(("human", "Q"), ("gpt", "A"))
IQA = turns(("human", "<image>\nQ"), ("gpt", "A"))


def read(record: Any) -> Parsed:
    return parse(record, "", "raw text")


def test_plain_row():
    p = read({"id": 1, "image": "a.jpg", "conversations": IQA})
    assert p == Parsed(["user", "assistant"], ["<image>\nQ", "A"], ["a.jpg"], "", "", 0, False)


@pytest.mark.parametrize(
    "extra", [{}, {"image": None}, {"image": ""}, {"image": []}, {"image": [""]}, {"images": []}]
)
def test_text_only(extra):
    p = read({"conversations": QA, **extra})
    assert (p.images, p.problem, p.flags, p.texts) == ([], "", 0, ["Q", "A"])


def test_text_is_kept_exactly():
    odd = " \t<image>\r\nQ\x00 \n\n"
    assert read({"image": "a", "conversations": turns(("human", odd), ("gpt", " A\n"))}).texts == [
        odd,
        " A\n",
    ]


def test_roles():
    p = read(
        {
            "conversations": turns(
                ("system", "S"), ("user", "Q"), ("assistant", "A"), ("human", "Q"), ("gpt", "A")
            )
        }
    )
    assert (
        p.roles == ["system", "user", "assistant", "user", "assistant"]
        and not p.problem
        and not p.flags
    )


def test_missing_placeholder_is_inserted_before_the_first_question():
    p = read(
        {"image": ["a", "b"], "conversations": turns(("system", "S"), ("human", "Q"), ("gpt", "A"))}
    )
    assert (
        p.texts == ["S", "<image>\n<image>\nQ", "A"]
        and p.flags == llava.PLACEHOLDER_ADDED
        and not p.problem
    )


def test_images_key_is_read_too():
    assert read({"images": ["a"], "conversations": IQA}).images == ["a"]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (7, "unreadable: a number instead of an object"),
        (None, "unreadable: null instead of an object"),
        ([1], "unreadable: a list instead of an object"),
        ({}, "unreadable: no `conversations`"),
        ({"messages": []}, "unreadable: no `conversations`"),
        ({"conversations": []}, "unreadable: `conversations` is an empty list"),
        ({"conversations": "Q"}, "unreadable: `conversations` is text"),
        ({"conversations": None}, "unreadable: `conversations` is null"),
        ({"conversations": ["Q", "A"]}, "bad-turn: a turn is text instead of"),
        (
            {"conversations": turns(("human", None), ("gpt", "A"))},
            ("bad-value: a turn's value is null"),
        ),
        (
            {"conversations": turns(("human", "Q"), ("gpt", 4))},
            ("bad-value: a turn's value is a number"),
        ),
        (
            {"conversations": turns(("human", "Q"), ("gpt", True))},
            ("bad-value: a turn's value is true or false"),
        ),
        ({"conversations": turns(("human", "Q"), ("bot", "A"))}, 'unknown-role: "bot"'),
        ({"conversations": turns(("human", "Q"), (None, "A"))}, "unknown-role: null"),
        ({"conversations": turns(("human", "Q"), (["gpt"], "A"))}, 'unknown-role: ["gpt"]'),
        ({"conversations": QA, "video": "v.mp4"}, "video: "),
        ({"conversations": QA, "image": 5}, "bad-image: `image` is a number"),
        ({"conversations": QA, "image": {"bytes": ""}}, "bad-image: `image` is an object"),
        ({"conversations": IQA, "image": ["a", 5]}, "bad-image: an image is a number"),
        ({"conversations": IQA}, "placeholder-mismatch: 1 <image> but 0 images"),
        (
            {"conversations": IQA, "image": ["a", "b"]},
            ("placeholder-mismatch: 1 <image> but 2 images"),
        ),
        (
            {"conversations": turns(("human", "<image><image>"), ("gpt", "A")), "image": "a"},
            "placeholder-mismatch: 2 <image> but 1 image",
        ),
        (
            {"conversations": turns(("human", "<image>"), ("gpt", "<image>")), "image": "a"},
            "placeholder-mismatch: 2 <image> but 1 image",
        ),
        (
            {"conversations": turns(("gpt", "A")), "image": "a"},
            ("placeholder-mismatch: 0 <image> but 1 image"),
        ),
        ({"conversations": turns(("human", "Q"), ("gpt", ""))}, "no-answer: every answer is empty"),
        (
            {"conversations": turns(("human", "Q"), ("gpt", " \n"), ("human", "Q"), ("gpt", ""))},
            "no-answer: every answer is empty",
        ),
        ({"conversations": turns(("human", "Q"))}, "no-answer: no assistant turn"),
        ({"conversations": turns(("human", "Q\ud800"), ("gpt", "A"))}, "invalid-text: "),
        (
            {
                "conversations": turns(
                    ("human", "Q"), ("gpt", b"caf\xe9".decode("utf-8", "surrogateescape"))
                )
            },
            "invalid-text: ",
        ),
    ],
)
def test_problems_that_prevent_scoring(record, problem):
    found = read(record).problem
    assert found.startswith(problem)
    assert found.partition(":")[0].replace("-", "").isalpha()


@pytest.mark.parametrize(
    ("conversation", "flags"),
    [
        (turns(("gpt", "A"), ("human", "Q"), ("gpt", "A")), llava.STARTS_WITH_ASSISTANT),
        (turns(("gpt", "A")), llava.STARTS_WITH_ASSISTANT),
        (turns(("human", "Q"), ("gpt", "A"), ("human", "Q")), llava.ENDS_WITH_USER),
        (turns(("human", "Q"), ("human", "Q"), ("gpt", "A")), llava.USER_TWICE),
        (turns(("human", "Q"), ("gpt", "A"), ("gpt", "A")), llava.ASSISTANT_TWICE),
        (turns(("human", "Q"), ("gpt", "A"), ("human", "Q"), ("gpt", " ")), llava.EMPTY_ANSWER),
        (turns(("human", " "), ("gpt", "A")), llava.EMPTY_QUESTION),
        (turns(("human", "Q"), ("system", "S"), ("gpt", "A")), llava.LATE_SYSTEM),
        (turns(("system", "S"), ("human", "Q"), ("gpt", "A"), ("human", "Q"), ("gpt", "A")), 0),
    ],
)
def test_unusual_but_scorable_rows(conversation, flags):
    p = read({"conversations": conversation})
    assert p.flags == flags and p.problem == ""


@pytest.mark.parametrize(
    ("extra", "source"),
    [
        ({}, ""),
        ({"dataset": "d", "image_source": "i", "source": "s", "data_source": "ds"}, "ds"),
        ({"dataset": "d", "image_source": "i", "source": "s", "data_source": ""}, "s"),
        ({"dataset": "d", "image_source": "i"}, "i"),
        ({"dataset": "d", "source": None}, "d"),
        ({"source": ["a"], "dataset": 7}, "7"),
        ({"source": "a\ud800"}, "a\\ud800"),
    ],
)
def test_source(extra, source):
    assert read({"conversations": QA, **extra}).source == source


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"id": "a1"}, '"a1"'),
        ({"id": 7}, "7"),
        ({"id": "7"}, '"7"'),
        ({"id": None}, "null"),
        ({}, ""),
        ({"id": 'a"\\\n'}, '"a\\"\\\\\\n"'),
        ({"id": "größe"}, '"größe"'),
        ({"id": "\ud800"}, '"\\ud800"'),
        ({"id": [1, "b"]}, '[1, "b"]'),
        (5, ""),
    ],
)
def test_id(record, text):
    assert llava.record_id(record) == text


@pytest.mark.parametrize(
    "texts", [["Q", "A"], ["größe 日本", "🎈"], ["\ud800", "\x1f2\x1f"], ["", ""]]
)
@pytest.mark.parametrize(
    "images",
    [
        (),
        (ImageRef("a.jpg", size=3, content="ab" * 32), ImageRef("größe.jpg"), ImageRef(data=b"x")),
    ],
)
def test_digest_is_the_digest_of_the_sample(texts, images):
    sample = Sample(
        "1", tuple(Turn(r, t) for r, t in zip(("user", "assistant"), texts, strict=True)), images
    )
    result = llava.text_digest(["user", "assistant"], texts)
    assert row_digest(result, [i.identity for i in images]) == sample.digest


def test_unreadable_records_differ_in_digest():
    a, b = (parse(None, "unreadable: line is not valid JSON", raw) for raw in ("{a", "{b"))
    assert llava.text_digest(a.roles, a.texts) != llava.text_digest(b.roles, b.texts)
