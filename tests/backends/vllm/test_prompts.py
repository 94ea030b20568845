"""Positions of tokens among images' tokens, and log-probabilities of prompts. Pure functions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vllm_engine import FlatLogprobs
from thresher.backends.vllm.prompts import TokenScores, expanded_positions

IMAGE = 9


@pytest.mark.parametrize(
    ("ids", "expanded", "want"),
    [
        ([1, 2, 3], [1, 2, 3], [0, 1, 2]),
        ([IMAGE, 2], [IMAGE, IMAGE, IMAGE, 2], [0, 3]),
        ([1, IMAGE], [1, IMAGE, 8, IMAGE], [0, 1]),
        ([1, IMAGE, IMAGE, 2], [1, IMAGE, IMAGE, IMAGE, 2], [0, 1, 2, 4]),
        # the text between two images also occurs among an image's tokens: the last one is anchored
        ([1, IMAGE, 7, IMAGE, 7, 2], [1, IMAGE, 7, IMAGE, 7, 7, 2], [0, 1, 2, 3, 5, 6]),
    ],
)
def test_positions(ids: list[int], expanded: list[int], want: list[int]) -> None:
    places = [p for p, i in enumerate(ids) if i == IMAGE]
    found = expanded_positions(ids, places, expanded)
    assert found is not None and found.tolist() == want


@pytest.mark.parametrize(
    ("ids", "expanded"),
    [
        ([1, 2, 3], [1, 2, 4]),  # another text
        ([1, 2], [1, 2, 3]),  # more text
        ([5, 1, IMAGE, 2], [1, IMAGE, 2]),  # less text
        ([1, IMAGE, 2], [1, 2]),  # no token for the image
        ([1, IMAGE, 3, IMAGE, 2], [1, IMAGE, 4, IMAGE, 2]),
    ],
)
def test_other_tokens(ids: list[int], expanded: list[int]) -> None:
    assert expanded_positions(ids, [p for p, i in enumerate(ids) if i == IMAGE], expanded) is None


def flat(entries: list[list[tuple[int, float]]]) -> FlatLogprobs:
    out = FlatLogprobs()
    for entry in entries:
        out.append(entry)
    return out


IDS = [4, 5, 6, 7]
ENTRIES = [[], [(5, -1.0), (3, -0.5)], [(6, -0.2), (6, -0.2)], [(7, -3.0), (1, -0.1)]]


def test_scores_of_a_whole_prompt() -> None:
    scores = TokenScores.read(IDS, flat(ENTRIES), 0, 2)
    np.testing.assert_equal(scores.logprobs, [np.nan, -1.0, -0.2, -3.0])
    assert scores.likeliest.tolist() == [-1, 3, 6, 1]
    assert scores.known(np.array([1, 3])) and not scores.known(np.array([0, 1]))
    assert scores.predicted([1, 3]) == {1: 6, 3: 2}


@pytest.mark.parametrize("entries", [ENTRIES, [[], *ENTRIES[3:]]], ids=["filled", "left out"])
def test_what_is_cached_is_not_known(entries: list[list[tuple[int, float]]]) -> None:
    """The log-probability of the token after the cached ones comes from the last cached one."""
    scores = TokenScores.read(IDS, flat(entries), 2, 0)
    np.testing.assert_equal(scores.logprobs, [np.nan, np.nan, np.nan, -3.0])


def test_log_probabilities_of_other_tokens_are_not_known() -> None:
    scores = TokenScores.read([4, 5, 6, 8], flat(ENTRIES), 0, 0)
    assert not scores.known(np.array([3])) and scores.known(np.array([1, 2]))
