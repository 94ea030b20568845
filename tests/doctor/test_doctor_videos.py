"""The doctor of a pool whose videos are scored: files, places, tokens, models without videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_models import build
from tests.tiny_videos import write_video
from thresher.backends import resolve
from thresher.doctor import diagnose, find_problems, repair
from thresher.mixture.tokens import TokenCounts, media_tokens
from thresher.pools import Pool, open_pool
from thresher.pools.token_estimate import estimate_row_tokens, estimate_tokens
from thresher.types import Tokens

FRAMES = 4


def row(
    question: str = "<video>\nWhat happens?", answer: str = "It turns red.", **more: Any
) -> Any:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **more}


ROWS = [
    row(video="a.mp4"),
    row(video="gone.mp4"),
    row(video="text.mp4"),
    row("<video><video>\nWhich?", video="a.mp4"),
    row("<video>\nWhich?", video=[["1.jpg", "2.jpg"]]),
    row(answer=" ", video="a.mp4"),
    row(answer="\ud800", video="a.mp4"),
    row("Why?"),
    row(video="a.mp4", audio="b.wav"),
    row("<video><video>\nWhich?", answer="The first " * 200, videos=["a.mp4", "b.mp4"]),
]
EXPECTED = {
    "missing-video": [1],
    "bad-video": [2, 4],
    "placeholder-mismatch": [3],
    "no-answer": [5],
    "invalid-text": [6],
    "audio": [8],
    "text-only": [7],
}


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    write_video(tmp_path / "a.mp4", 9)
    write_video(tmp_path / "b.mp4", 9, seed=1)
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "pool.json").write_text(json.dumps(ROWS))
    return open_pool(tmp_path / "pool.json")


def test_without_a_number_of_frames_no_video_is_read(pool: Pool) -> None:
    found = find_problems(pool, near=False)
    assert found.rows["video"].tolist() == [i for i in range(10) if i != 7]
    assert {"missing-video", "bad-video"}.isdisjoint(found.rows)


def test_videos_are_checked_as_a_run_would_use_them(pool: Pool) -> None:
    pool.score_videos(FRAMES)
    found = find_problems(pool, near=False, workers=2)
    assert {kind: found.rows[kind].tolist() for kind in EXPECTED} == EXPECTED
    assert "video" not in found.rows
    assert found.lost.tolist() == [i in (1, 2, 3, 4, 5, 6, 8) for i in range(10)]
    details = {e.row: e.detail for finding in found.diagnosis().findings for e in finding.examples}
    assert details[1].startswith("gone.mp4: no such video in ")
    assert details[2].startswith("text.mp4: cannot be decoded as a video")
    assert details[3].startswith("2 <video> and 0 <image>, but 1 videos")


def test_long_rows_count_the_tokens_of_videos(pool: Pool) -> None:
    def long_rows(context: int) -> list[int]:
        found = find_problems(pool, near=False, context=context, media=media_tokens(pool, None))
        return found.rows.get("long-row", np.zeros(0, np.int64)).tolist()

    assert long_rows(600) == []  # 402 words
    pool.score_videos(FRAMES)
    assert long_rows(196 * FRAMES) == [0, 1, 2, 9] and long_rows(2 * 196 * FRAMES) == [9]


def test_token_budgets_count_the_tokens_of_videos(pool: Pool) -> None:
    total = Tokens("1ktok:total", 1000, True)
    without = TokenCounts(pool, total)
    assert "a video" not in without.how
    pool.score_videos(FRAMES)
    assumed = TokenCounts(pool, total)
    assert assumed.how.endswith(
        f", {196 * FRAMES} a video (assumed, 196 a frame as LLaVA-OneVision has; models differ)"
    )
    prompt = estimate_tokens(np.array([3]), np.array([len("<image>\nWhat happens?")]))[0]
    assert assumed.rest[0] == pytest.approx(196 * FRAMES + prompt)
    assert assumed.rest[7] == without.rest[7]
    rough = estimate_row_tokens(pool.facts, np.array([0, 7]))
    assert rough[0] - rough[1] == pytest.approx(576), "to divide work: a video is one image"
    model = resolve(str(build("qwen2_5_vl")), device="cpu")
    measured = TokenCounts(pool, total, model)
    assert "a video (the model's processor, mean of 3)" in measured.how
    assert model.video_tokens is not None
    sample = pool.samples([0])[0]
    (each,) = model.video_tokens([pool.load_image(sample.images[0])])
    assert measured.rest[0] == pytest.approx(each + prompt)


def test_a_model_that_takes_no_videos(pool: Pool) -> None:
    pool.score_videos(FRAMES)
    media = media_tokens(pool, resolve(str(build("llava")), device="cpu"))
    assert media.no_videos == "video: this model (llava) takes no videos" and media.video == 0
    (finding,) = [f for f in diagnose(pool, near=False, media=media).findings if f.kind == "video"]
    assert (finding.severity, finding.rows) == ("error", 2)
    assert [e.row for e in finding.examples] == [0, 9]
    assert finding.examples[0].detail == "this model (llava) takes no videos"


def test_the_repaired_copy_has_no_row_whose_videos_cannot_be_used(
    pool: Pool, tmp_path: Path
) -> None:
    before = repair(pool, find_problems(pool, near=False), tmp_path / "unscored.json")
    pool.score_videos(FRAMES)
    result = repair(pool, find_problems(pool, near=False), tmp_path / "fixed.json")
    assert (before.rows, result.rows) == (10, 5), "rows without problem, with audio, or repaired"
    log = [json.loads(line) for line in result.log.read_text().splitlines()]
    assert {c["row"]: c["kind"] for c in log if c["done"] == "left out"} == {
        1: "missing-video",
        2: "bad-video",
        3: "placeholder-mismatch",
        4: "bad-video",
        5: "no-answer",
    }
    assert [c["row"] for c in log if c["done"] == "repaired"] == [6]
    copy = open_pool(tmp_path / "fixed.json")
    copy.score_videos(FRAMES)
    assert list(find_problems(copy, near=False).bad_videos) == [3], "the row with audio"
