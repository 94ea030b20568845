"""Patterns that run over a user's whole text take linear time: 1 MB each, under a watchdog that
only stops a hang."""

from __future__ import annotations

import faulthandler
import re

import pytest

from thresher.answers import candidates, parsing
from thresher.exporters import raw
from thresher.pools import markers
from thresher.pools.embedded import parse_image
from thresher.pools.paths import unsafe_path_reason
from thresher.signals import query, rationale, reasoning

SEEDS = [
    " ",
    "\n",
    "\t",
    "<img>",
    "<image>",
    "<image> ",
    "<|image_pad|>",
    "<image1",
    "[IMG]",
    "a",
    "<ref",
]
PATTERNS = {
    "raw._BREAK": raw._BREAK,
    "query._INNER": query._INNER,
    **{f"markers.{name}": p for name, p in vars(markers).items() if isinstance(p, re.Pattern)},
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_megabyte_of_hostile_text_is_parsed(name: str) -> None:
    pattern = PATTERNS[name]
    faulthandler.dump_traceback_later(300, exit=True)  # linear: under a second each
    try:
        for seed in SEEDS:
            text = seed * (1_000_000 // len(seed)) + "x"
            given = text.encode() if isinstance(pattern.pattern, bytes) else text
            for _ in pattern.finditer(given):
                pass
    finally:
        faulthandler.cancel_dump_traceback_later()


USES = {  # as users' texts meet the patterns
    "query": query.text_without_images,
    "rationale": rationale.strip_answer_instruction,
    "steps": reasoning.split_reasoning,
    "options": candidates.parse_options,
    "number": parsing.parse_rating,
    "option": lambda text: parsing.parse_option(text, "AB"),
    "image": lambda text: parse_image("data:" + text),
    "path": unsafe_path_reason,
}
HOSTILE = [
    *SEEDS,
    "\n<image>",
    "A. ",
    "B. ",
    "A. B. ",
    "e.g. A ",
    "answer in the ",
    "\nanswer with a",
    ". ",
    "data:",
    "a;",
    "://",
]
# to `split_reasoning`, every letter with a full stop is an initial, as in "A. "
ALIKE = {"steps": {"B. ", "A. B. "}}


@pytest.mark.parametrize("name", USES)
def test_a_megabyte_of_hostile_text_is_used(name: str) -> None:
    faulthandler.dump_traceback_later(900, exit=True)  # linear: seconds each
    try:
        for seed in HOSTILE:
            if seed in ALIKE.get(name, ()):
                continue
            USES[name]("x" + seed * (1_000_000 // len(seed)) + "x")
    finally:
        faulthandler.cancel_dump_traceback_later()


def test_placeholders_within_a_text_take_no_exponential_time() -> None:
    assert query.text_without_images("Compare " + "<image> " * 60 + "now").split() == [
        "Compare",
        "now",
    ]
    assert query.text_without_images(" <image> <image>\nQ <image> A\n<image> \n<image>") == "Q A"


def test_an_instruction_is_cut_out_where_a_sentence_or_line_begins() -> None:
    assert (
        rationale.strip_answer_instruction(
            "Is it? Answer with yes or no. Why?\n\n please answer using a word"
        )
        == "Is it? Why?"
    )
    assert (
        rationale.strip_answer_instruction("I answer in the affirmative")
        == "I answer in the affirmative"
    )
