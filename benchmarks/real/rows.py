"""The rows that the base model is trained on, by picture, and those kept for the model card.

Splits are by picture: no picture is on both sides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.real.sentences import as_sentences

HELD_OUT = 40  # one picture in so many


@dataclass(frozen=True)
class Row:
    """One question about a picture. `source`, `kind`: of the data."""

    source: str
    kind: str
    question: str
    answer: str


@dataclass(frozen=True)
class Picture:
    """A picture and all of its rows. `image`: file name."""

    image: str
    rows: tuple[Row, ...]


def read_pictures(file: Path, answers: str = "short") -> list[Picture]:
    """The pictures of a LLaVA JSON file with one question per row, by name.

    answers: "short", as they are; "sentences", see `sentences.py`.
    """
    rows: dict[str, list[Row]] = {}
    for record in json.loads(file.read_text("utf-8")):
        asked, answered = (turn["value"] for turn in record["conversations"])
        question = asked.replace("<image>\n", "")
        if answers == "sentences":
            question, answered = as_sentences(record["kind"], question, answered)
        row = Row(record["data_source"], record["kind"], question, answered)
        rows.setdefault(record["image"], []).append(row)
    return [Picture(image, tuple(rows[image])) for image in sorted(rows)]


def is_held_out(image: str, one_in: int = HELD_OUT) -> bool:
    return int(hashlib.sha256(image.encode()).hexdigest()[:8], 16) % one_in == 0


def split(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """(training, held out)."""
    held = [is_held_out(p.image) for p in pictures]
    return (
        [p for p, out in zip(pictures, held, strict=True) if not out],
        [p for p, out in zip(pictures, held, strict=True) if out],
    )
