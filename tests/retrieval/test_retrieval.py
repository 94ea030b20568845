"""Retrieval by words and by vectors: order, ties, and no match."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("bm25s")

from thresher.retrieval import Bm25, Cosine

SKILLS = [
    "counting objects",
    "reading digits\nadding numbers",
    "naming colours",
    "counting objects",
    "",
    "reading digits",
    "counting bars in a chart",
]
TIES = np.array([3, 1, 2, 0, 9, 5, 4], np.uint64)


def test_ties_use_the_hash_and_shorter_texts_rank_higher() -> None:
    rows, scores = Bm25(SKILLS, TIES).ranked("counting objects", 10)
    assert rows.tolist() == [3, 0, 6]
    assert scores[0] == scores[1] > scores[2] > 0


def test_score_equals_okapi_bm25() -> None:
    """By hand: Lucene's idf = ln(1 + (N - n + 0.5) / (n + 0.5)), tf / (tf + k1 (1 - b + b l / mean
    l))."""
    _, scores = Bm25(SKILLS, TIES).ranked("colours", 10)
    mean = (2 + 4 + 2 + 2 + 0 + 2 + 4) / 7  # "a" has one letter
    expected = np.log(1 + (7 - 1 + 0.5) / 1.5) * 1 / (1 + 1.5 * (0.25 + 0.75 * 2 / mean))
    assert scores.tolist() == pytest.approx([expected], rel=1e-5)


def test_depth_truncates_ties_by_hash() -> None:
    assert Bm25(SKILLS, TIES).ranked("counting objects", 1)[0].tolist() == [3]
    assert Bm25(["same"] * 50, np.arange(50, dtype=np.uint64)[::-1]).ranked("same", 3)[
        0
    ].tolist() == [49, 48, 47]


@pytest.mark.parametrize("query", ["", "unheard words", "?!"])
def test_no_match(query: str) -> None:
    assert len(Bm25(SKILLS, TIES).ranked(query, 5)[0]) == 0


def test_pool_without_skills() -> None:
    assert len(Bm25(["", "", "x"], TIES[:3]).ranked("counting", 5)[0]) == 0


def test_cosine_orders_by_angle() -> None:
    angles = np.array([0.0, 0.5, 0.5, 1.0, 2.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found, scores = Cosine(
        rows, np.array([4, 3, 2, 1, 0], np.uint64), {"q": np.array([1.0, 0.0])}
    ).ranked("q", 4)
    assert found.tolist() == [0, 2, 1, 3]  # the last is more than a right angle away
    assert scores[0] == pytest.approx(1.0)


def test_repeated_texts_count_as_rows() -> None:
    """The scores are those of bm25s for all rows, one by one."""
    import bm25s

    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    texts = [" ".join(rng.choice(words, rng.integers(0, 7))) for _ in range(60)]
    documents = [texts[i] for i in rng.integers(0, 60, 900)]
    plain = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    plain.index([text.split() for text in documents], show_progress=False)
    ours = Bm25(documents, np.arange(900, dtype=np.uint64))
    for query in [*texts[:20], *words]:
        expected = plain.get_scores(query.split()) if query else np.zeros(900)
        rows, scores = ours.ranked(query, 900)
        assert scores.tolist() == expected[rows].tolist()
        assert sorted(rows.tolist()) == np.flatnonzero(expected > 0).tolist()
