"""Rows that trainers can read: one image, two, none, several turns, a system turn."""

from __future__ import annotations

from typing import Any


def qa(question: str, answer: str = "A") -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


ROWS: list[dict[str, Any]] = [
    {"id": 1, "image": "a.png", "score": 1, "conversations": qa("<image>\nQ")},
    {
        "id": "two",
        "image": ["a.png", "sub/b.jpg"],
        "score": 0.5,
        "conversations": qa("<image><image>Q"),
    },
    {
        "conversations": [
            {"from": "system", "value": "S"},
            *qa("text only"),
            *qa("again", "größe 🎈"),
        ],
        "meta": {"a": [1]},
    },
    {"id": None, "image": "c.gif", "conversations": qa("no placeholder"), "meta": "text"},
]
