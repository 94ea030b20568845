"""Thumbnails of the viewer: a video is shown by its first frame."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_videos import HEIGHT, WIDTH, write_video
from thresher.errors import ImageError
from thresher.pools import open_pool
from thresher.viewer.cards import Thumbnails


def test_a_video_is_shown_by_its_first_frame_and_images_keep_their_places(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 5)
    Image.new("RGB", (10, 20), "red").save(tmp_path / "r.png")
    (tmp_path / "gone.mp4").write_bytes(b"")
    answer = {"from": "gpt", "value": "It moves."}
    rows = [
        {
            "video": video,
            "image": "r.png",
            "conversations": [{"from": "human", "value": "<video><image>\nWhat?"}, answer],
        }
        for video in ("a.mp4", "gone.mp4")
    ]
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    pool = open_pool(tmp_path / "pool.json", tmp_path)
    pool.score_videos(2)
    thumbnails = Thumbnails(pool)
    sizes = [Image.open(io.BytesIO(thumbnails.get(0, k))).size for k in (0, 1)]
    assert sizes == [(WIDTH, HEIGHT), (10, 20)]
    with pytest.raises(ImageError, match=r"gone\.mp4: cannot be decoded as a video"):
        thumbnails.get(1, 0)
