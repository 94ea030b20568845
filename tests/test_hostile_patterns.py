"""Patterns that run over a user's whole text take linear time: 1 MB each, under a watchdog that only stops a hang."""

from __future__ import annotations

import faulthandler
import re

import pytest

from thresher.exporters import raw
from thresher.pools import markers
from thresher.signals import query

SEEDS = [" ", "\n", "\t", "<img>", "<image>", "<image> ", "<|image_pad|>", "<image1", "[IMG]", "a", "<ref"]
PATTERNS = {
    "raw._BREAK": raw._BREAK,
    "query._INNER": query._INNER,
    **{f"markers.{name}": p for name, p in vars(markers).items() if isinstance(p, re.Pattern)},
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_megabyte_of_hostile_text_is_read(name: str) -> None:
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
