"""Rows with visual input: images, and videos whose frames are scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from thresher.console.formatting import format_percent
from thresher.engine import RunContext
from thresher.engine.columns import compute_all
from thresher.pools import Pool, open_pool
from thresher.pools.notebook import pool_view
from thresher.report.breakdown import media, media_counts
from thresher.request import RunRequest
from thresher.signals.judgement import LEAST_IMAGES, IfMeasured, ImageSample
from thresher.signals.visual_input import VisualInput
from thresher.storage.columns import Store


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """In turn a row with a video, with an image and without either."""
    (tmp_path / "a.png").write_bytes(b"x")
    kinds = [("<video>\n", {"video": "a.mp4"}), ("<image>\n", {"image": "a.png"}), ("", {})]
    rows = []
    for i in range(3 * LEAST_IMAGES):
        place, media = kinds[i % 3]
        turns = [{"from": "human", "value": f"{place}What is {i}?"}]
        rows.append({"id": i, **media, "conversations": [*turns, {"from": "gpt", "value": "It."}]})
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    return open_pool(tmp_path / "pool.json")


@pytest.mark.parametrize(("frames", "expected"), [(None, [1]), (2, [0, 1])])
def test_a_scored_video_is_visual_input(
    pool: Pool, tmp_path: Path, frames: int | None, expected: list[int]
) -> None:
    """`expected`: which of the three kinds of rows have visual input."""
    if frames is not None:
        assert not pool.facts["visual"][::3].any()
        pool.score_videos(frames)
    sample = ImageSample(most=10**6)
    signals = {"visual": VisualInput(), "sample": sample, "asked": IfMeasured(sample)}
    columns = compute_all(signals, pool, RunRequest(), RunContext(Store(tmp_path / "store")))
    for name, field in (("visual", "given"), ("sample", "chosen"), ("asked", "chosen")):
        given = columns[name].values[field]
        assert [kind for kind in range(3) if given[kind::3].all()] == expected, name
        assert given.sum() == len(expected) * LEAST_IMAGES, name
    assert pool.facts["images"].tolist() == [0, 1, 0] * LEAST_IMAGES, "a video is not an image"


def test_reports_count_rows_with_videos_apart(pool: Pool) -> None:
    def counts() -> dict[str, int]:
        title, groups = media(pool.facts, pool.video_frames)
        assert title == "Images and videos per row"
        return {name: int(mask.sum()) for name, mask in groups}

    n = LEAST_IMAGES
    assert counts() == {"0 images": n, "1 image": n, "a video (not scored)": n}
    kept = np.array([0, 1, 4])  # of the kinds: a video, an image, an image
    assert media_counts(pool.facts, kept) == [
        ("Images shown", format_percent(2, n), f"2 of {n}"),
        ("Videos shown", format_percent(1, n), f"1 of {n} rows"),
    ]
    view = pool_view(pool)
    assert ("With a video", str(n), "not scored") in view.counts
    assert ("Problems", f"{n} rows") in [c[:2] for c in view.counts]
    pool.score_videos(2)
    assert counts() == {"0 images": n, "1 image": n, "a video": n}
    view = pool_view(pool)
    assert ("With a video", str(n), "2 frames of each are scored") in view.counts
    assert ("Problems", "none") in [c[:2] for c in view.counts]
    assert "rows with a problem" not in repr(pool)


def test_a_pool_without_videos_has_no_group_for_them(pool: Pool) -> None:
    facts = {name: values[1::3] for name, values in pool.facts.items()}
    title, groups = media(facts, None)
    assert title == "Images per row" and [name for name, _ in groups] == ["1 image"]
    assert [name for name, _, _ in media_counts(facts, np.array([0]))] == ["Images shown"]
