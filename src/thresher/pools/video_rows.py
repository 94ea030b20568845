"""A row with videos as it is scored: each video is handled as an image is, as a `VideoRef` among
the sample's images and `<image>` in the text.

A video's place is its `<video>` in the text. Rows of LLaVA-Video write `<image>` for their video,
which is read so if the row has no images and as many `<image>` as videos. Where the text names no
place, the videos come before the first user turn, as images do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thresher.pools import llava
from thresher.pools.chat import VIDEO_PLACEHOLDER
from thresher.pools.paths import printable
from thresher.types import IMAGE_PLACEHOLDER, ImageRef, RowError, Sample, Turn, VideoRef

_PLACE = re.compile(f"{re.escape(IMAGE_PLACEHOLDER)}|{re.escape(VIDEO_PLACEHOLDER)}")
# What parsing says of a row without its videos, whose places are looked for here
_OF_PLACES = ("media-marker", "placeholder-mismatch", "unread-media")


def with_videos(sample: Sample, record: Mapping[str, Any], frames: int) -> Sample:
    """The sample of a row with videos, to be scored. Its digest remains that of `sample`.

    Arguments:
        sample: the row without its videos.
        record: the row in the LLaVA layout.
        frames: most frames of a video.

    A row that cannot be scored for another reason gets a `VideoRef` that names it.
    """
    problem = problem_beside(record)
    videos = video_refs(record, frames)
    texts = [turn.text for turn in sample.turns]
    marked = sum(text.count(VIDEO_PLACEHOLDER) for text in texts)
    pictured = sum(text.count(IMAGE_PLACEHOLDER) for text in texts)
    places = [found[0] for text in texts for found in _PLACE.finditer(text)]
    roles = [turn.role for turn in sample.turns]
    if not marked and not sample.images and pictured == len(videos):
        places = [VIDEO_PLACEHOLDER] * pictured
    elif not marked and pictured == len(sample.images) and "user" in roles:
        first = roles.index("user")
        texts[first] = f"{VIDEO_PLACEHOLDER}\n" * len(videos) + texts[first]
        places = [found[0] for text in texts for found in _PLACE.finditer(text)]
    if places.count(VIDEO_PLACEHOLDER) != len(videos) or len(places) != len(videos) + len(
        sample.images
    ):
        problem = problem or (
            f"placeholder-mismatch: {marked} {VIDEO_PLACEHOLDER} and {pictured} "
            f"{IMAGE_PLACEHOLDER}, but {len(videos)} videos and {len(sample.images)} images"
        )
    if problem:
        # At a place in the text, so that what shows a part of the row still meets the problem
        lead = roles.index("user") if "user" in roles else 0
        texts = [_PLACE.sub("", text) for text in texts]
        texts[lead : lead + 1] = [f"{IMAGE_PLACEHOLDER}\n{text}" for text in texts[lead : lead + 1]]
        media: tuple[ImageRef, ...] = (VideoRef(problem=problem),)
        turns = tuple(Turn(role, text) for role, text in zip(roles, texts, strict=True))
        return replace(sample, turns=turns, images=media, problem="", key=sample.digest)
    queues = {IMAGE_PLACEHOLDER: iter(sample.images), VIDEO_PLACEHOLDER: iter(videos)}
    media = tuple(next(queues[place]) for place in places)
    turns = tuple(
        Turn(turn.role, text.replace(VIDEO_PLACEHOLDER, IMAGE_PLACEHOLDER))
        for turn, text in zip(sample.turns, texts, strict=True)
    )
    return replace(sample, turns=turns, images=media, problem="", key=sample.digest)


def video_refs(record: Mapping[str, Any], frames: int) -> list[VideoRef]:
    """The videos of a row: a path or bytes, or the `problem` of a value that is neither.

    Arguments:
        record: the row in the LLaVA layout.
        frames: most frames of a video.
    """
    given = [v for key in ("video", "videos") for v in _listed(record.get(key))]
    return [_reference(value, frames) for value in given]


def problem_beside(record: Mapping[str, Any]) -> str:
    """Why a row with videos cannot be scored for another reason than its videos; "": it can.
    `record`: in the LLaVA layout, with turns that are objects."""
    turns = [
        {**turn, "value": str(turn.get("value", "")).replace(VIDEO_PLACEHOLDER, "")}
        for turn in record["conversations"]
    ]
    rest = {k: v for k, v in record.items() if k not in ("video", "videos")}
    problem = llava.parse({**rest, "conversations": turns}, "", "").problem
    if RowError.parse(problem).kind in _OF_PLACES:
        problem = ""
    if not problem and not llava.is_encodable([turn["value"] for turn in turns]):
        problem = "invalid-text: invalid UTF-8 or a lone surrogate, which no tokenizer takes"
    return problem


def _listed(value: Any) -> Sequence[Any]:
    if not value:
        return ()
    return value if isinstance(value, list) else [value]


def _reference(value: Any, frames: int) -> VideoRef:
    if isinstance(value, dict) and value.keys() == {"path", "sha256"}:  # `tar_samples`
        return VideoRef(
            problem=f"bad-video: {printable(str(value['path']))}: videos inside a tar are not read"
        )
    if isinstance(value, dict):  # a cell of a parquet file; the `video_url` of a message's part
        value = value.get("bytes") or value.get("path") or value.get("url") or value
    if isinstance(value, bytes):
        return VideoRef(data=value, size=len(value), frames=frames)
    if isinstance(value, str):
        return VideoRef(path=value, frames=frames)
    what = (
        "a list of frames"
        if isinstance(value, list)
        else "an object without a path"
        if isinstance(value, dict)
        else "a number"
    )
    return VideoRef(problem=f"bad-video: a video is {what} instead of the path of a file")
