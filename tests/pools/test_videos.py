"""Videos of a pool: which frames are read, and how rows with videos become samples that a model can
score."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_videos import FPS, HEIGHT, WIDTH, write_video
from thresher.backends.hf.conversation import prompt_of
from thresher.errors import ImageError
from thresher.pools import Pool, open_pool, videos
from thresher.types import ImageRef, VideoRef

NOT_READ = "video: not read unless the number of frames to read is given (--video-frames N)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    write_video(made / "v" / "a.mp4", 24, seed=1)
    write_video(made / "v" / "b.mkv", 5, seed=2)
    (made / "v" / "cut.mp4").write_bytes((made / "v" / "a.mp4").read_bytes()[:700])
    (made / "v" / "text.mp4").write_text("not a video")
    (made / "v" / "empty.mp4").write_bytes(b"")
    return made


def load(folder: Path, path: str, frames: int = 4) -> Any:
    return videos.load(str(folder), VideoRef(path=path, frames=frames))


# ------------------------------------------------------------------------------------------ frames


def test_frames_are_sampled_evenly_from_the_first_to_the_last(folder: Path) -> None:
    video = load(folder, "v/a.mp4", 4)
    assert video.indices == (0, 8, 15, 23) and (video.total, video.fps) == (24, FPS)
    assert video.frames.shape == (4, HEIGHT, WIDTH, 3) and video.frames.dtype == np.uint8
    shades = video.frames.reshape(4, -1).mean(1)
    assert (np.diff(shades) > 20).all(), "every frame is lighter than the one before"
    whole = load(folder, "v/a.mp4", 100)
    assert whole.indices == tuple(range(24))
    np.testing.assert_array_equal(whole.frames[[0, 8, 15, 23]], video.frames)
    assert load(folder, "v/a.mp4", 1).indices == (11,)
    assert load(folder, "v/b.mkv", 8).indices == (0, 1, 2, 3, 4)


def test_a_promise_of_more_frames_is_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "_promised_frames", lambda *_: 100)
    assert load(folder, "v/a.mp4", 4).indices == (0, 8, 15, 23)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("v/cut.mp4", "bad-video: v/cut.mp4: cannot be decoded as a video ("),
        ("v/text.mp4", "bad-video: v/text.mp4: cannot be decoded as a video ("),
        ("v/empty.mp4", "bad-video: v/empty.mp4: cannot be decoded as a video ("),
        ("v/gone.mp4", "missing-video: v/gone.mp4: no such video in "),
        ("../out.mp4", "bad-video: "),
        (
            "http://x/y.mp4",
            "bad-video: http://x/y.mp4: remote-url: videos are read from the image folder only",
        ),
        ("v", "bad-video: v: "),
    ],
)
def test_what_is_no_video_is_a_reason(folder: Path, path: str, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        load(folder, path)
    assert str(caught.value).startswith(reason)
    assert caught.value.kind == reason.partition(":")[0] and "\n" not in str(caught.value)


def test_an_audio_file_holds_no_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.sample_rate = 8000
        for packet in [*stream.encode(silence), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(ImageError, match=r"a\.wav: it holds no video, as an audio file does"):
        load(tmp_path, "a.wav")


def test_huge_frames_are_refused_before_they_are_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="its frames are 96 x 64 pixels, more than 1,000"):
        load(folder, "v/a.mp4")


def test_an_embedded_video(folder: Path) -> None:
    data = (folder / "v" / "a.mp4").read_bytes()
    got = videos.load(str(folder), VideoRef(data=data, frames=4))
    np.testing.assert_array_equal(got.frames, load(folder, "v/a.mp4").frames)
    assert videos.decode(io.BytesIO(data), "x", 2).indices == (0, 23)


# -------------------------------------------------------------------------------------------- rows


def row(question: str, answer: str = "It turns red.", **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **more}


def opened(folder: Path, rows: list[dict[str, Any]], frames: int | None = 4) -> Pool:
    (folder / "pool.json").write_text(json.dumps(rows))
    pool = open_pool(folder / "pool.json", folder)
    if frames is not None:
        pool.score_videos(frames)
    return pool


def test_without_a_number_of_frames_rows_with_videos_are_not_scored(folder: Path) -> None:
    pool = opened(folder, [row("<video>\nWhat?", video="v/a.mp4"), row("Why?")], None)
    assert dict(pool.problems) == {0: NOT_READ}
    assert pool.samples([0])[0].problem == NOT_READ and not pool.samples([0])[0].images
    digest = pool.samples([0])[0].digest
    pool.score_videos(4)
    assert not pool.problems
    sample = pool.samples([0])[0]
    assert sample.digest == digest == pool.digest[0], "the row keeps its key"
    assert sample.images == (VideoRef(path="v/a.mp4", frames=4),) and not sample.problem
    assert pool.by_digest(digest) == sample
    assert pool.sample(0).problem == NOT_READ, "as it is in the file, to be shown and exported"
    assert pool.load_image(sample.images[0]).indices == (0, 8, 15, 23)


@pytest.mark.parametrize(
    ("given", "text", "paths"),
    [
        (row("<video>\nWhat?", video="a"), "<image>\nWhat?", ["a"]),
        (row("What?", video="a"), "<image>\nWhat?", ["a"]),
        (row("<image>\nWhat?", video="a"), "<image>\nWhat?", ["a"]),  # as LLaVA-Video writes it
        (row("<video><video>\nWhich?", video=["a", "b"]), "<image><image>\nWhich?", ["a", "b"]),
        (row("Which?", videos=["a", "b"]), "<image>\n<image>\nWhich?", ["a", "b"]),
        (
            row("<video>\nAnd <image>?", videos=["a"], image="r.png"),
            "<image>\nAnd <image>?",
            ["a", "r.png"],
        ),
        (
            row("<image>\nWhat?", videos=["a"], image="r.png"),
            "<image>\n<image>\nWhat?",
            ["a", "r.png"],
        ),
    ],
)
def test_places_of_videos(folder: Path, given: dict[str, Any], text: str, paths: list[str]) -> None:
    sample = opened(folder, [given]).samples([0])[0]
    assert sample.turns[0].text == text
    assert [ref.path for ref in sample.images] == paths
    assert [isinstance(ref, VideoRef) for ref in sample.images] == [p != "r.png" for p in paths]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            row("<video><video>\nWhat?", video="a"),
            "placeholder-mismatch: 2 <video> and 0 <image>, but 1 videos and 0 images",
        ),
        (row("<video>\nWhat?", " ", video="a"), "no-answer: every answer is empty"),
        (row("<video>\nWhat?", "\ud800", video="a"), "invalid-text: "),
        (
            row("<video>\nWhat?", video=[["1.jpg", "2.jpg"]]),
            "bad-video: a video is a list of frames",
        ),
        (row("<video>\nWhat?", video={"fps": 3}), "bad-video: a video is an object without a path"),
        (
            row("<video>\nWhat?", video={"path": "a.mp4", "sha256": "0" * 64}),
            "bad-video: a.mp4: videos inside a tar are not read",
        ),
    ],
)
def test_other_problems_of_a_row_remain(folder: Path, given: dict[str, Any], problem: str) -> None:
    pool = opened(folder, [given])
    (ref,) = pool.samples([0])[0].images
    with pytest.raises(ImageError) as caught:
        pool.load_image(ref)
    assert str(caught.value).startswith(problem)
    assert caught.value.kind == problem.partition(":")[0]
    asked = prompt_of(pool.samples([0])[0])
    assert asked.images == (ref,), "an answer is not asked for without the video"
    assert [part for m in asked.messages for part in m.parts].count(None) == 1


def test_audio_stays_unscored(folder: Path) -> None:
    pool = opened(
        folder, [row("What?", audio="a.wav"), row("<video>\nW?", video="a", audio="b.wav")]
    )
    assert pool.problems[0].startswith("audio: ")
    with pytest.raises(ImageError, match="audio: "):
        pool.load_image(prompt_of(pool.samples([1])[0]).images[0])


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (
            "swift.jsonl",
            {
                "messages": [
                    {"role": "user", "content": "<video>What?"},
                    {"role": "assistant", "content": "It."},
                ],
                "videos": ["v/a.mp4"],
            },
        ),
        (
            "urls.jsonl",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "video_url", "video_url": {"url": "v/a.mp4"}},
                            {"type": "text", "text": "What?"},
                        ],
                    },
                    {"role": "assistant", "content": "It."},
                ]
            },
        ),
        (
            "parts.jsonl",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "video", "video": "v/a.mp4"},
                            {"type": "text", "text": "What?"},
                        ],
                    },
                    {"role": "assistant", "content": [{"type": "text", "text": "It."}]},
                ]
            },
        ),
    ],
)
def test_other_formats(folder: Path, name: str, record: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(record) + "\n")
    pool = open_pool(folder / name, folder)
    pool.score_videos(3)
    sample = pool.samples([0])[0]
    assert sample.images == (VideoRef(path="v/a.mp4", frames=3),)
    assert sample.turns[0].text.count("<image>") == 1
    assert pool.load_image(sample.images[0]).indices == (0, 12, 23)


def test_the_key_of_a_file_is_that_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(path: str) -> bytes:
        return videos.content_key(str(tmp_path), VideoRef(path=path))

    data = bytes(range(256)) * 4
    for name, content in (("a", data), ("copy", data), ("longer", data + b"!")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "end").write_bytes(data[:-1] + b"!")
    (tmp_path / "middle").write_bytes(data[:515] + b"!" + data[516:])
    for part in (2**20, 100):  # read as a whole, and in three parts
        monkeypatch.setattr(videos, "PART_BYTES", part)
        assert key("a") == key("copy") and len(key("a")) == 40
        assert key("a") == videos.content_key("", VideoRef(data=data, size=len(data)))
        assert len({key(name) for name in ("a", "longer", "end", "middle")}) == 4
    with pytest.raises(ImageError, match="missing-video: gone"):
        key("gone")


def test_identities_differ() -> None:
    a = VideoRef(path="a", frames=3)
    assert a.identity != VideoRef(path="a", frames=4).identity != ImageRef(path="a").identity
    assert VideoRef(data=b"1").identity != VideoRef(data=b"2").identity
