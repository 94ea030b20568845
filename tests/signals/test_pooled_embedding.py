"""Sizes of a server's vectors."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.signals.pooled_embedding import sizes, sizes_differ
from thresher.signals.skill_vector import SkillVector, encoded, size_of
from thresher.types import ModelIdentity

SERVER = ModelIdentity("api:m", "openai", "", "full", engine="embeddings")


def test_a_row_without_the_part_has_no_size() -> None:
    vectors = np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]], np.float32)
    assert sizes(vectors).tolist() == [3, 0] and sizes(vectors).dtype == np.int32


@pytest.mark.parametrize("known", [[], [0, 0], [128, 0, 128]])
def test_equal_sizes_are_no_fault(known: list[int]) -> None:
    assert sizes_differ(np.array(known, np.int32), SERVER) == ""


def test_different_sizes_are_named_with_their_rows() -> None:
    text = sizes_differ(np.array([1024, 0, 64, 1024], np.int32), SERVER)
    assert "1 row with 64 numbers and 2 rows with 1,024 numbers" in text
    assert "'m'" in text


def test_vectors_of_skills_are_checked_too() -> None:
    one, other = encoded(np.ones(4)), encoded(np.ones(6))
    assert [size_of(t) for t in ("", one, other)] == [0, 4, 6]
    signal = SkillVector(SERVER, None)  # type: ignore[arg-type]
    assert signal.fault({"vector": np.array([one, "", one], object)}, [""] * 3) == ""
    assert "1 row with 6" in signal.fault({"vector": np.array([one, other], object)}, [""] * 2)
