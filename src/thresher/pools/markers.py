"""Converts media markers of other tools in the text to `<image>` placeholders, or reports what is
wrong with them.

    Picture 1: <img>coco/x.jpg</img>      Qwen-VL's first form: the text contains the image's path
    <image1> … <image2>, <image_00>       numbered: each is the image of that number
    <|image|>, <ImageHere>, [IMG] …       another model's image token; converted if there are as
                                          many as images
    <ref-object>, <bbox>                  ms-swift: filled from the row's `objects`
    <ref>…</ref>, <box>…</box>            Qwen-VL's grounding: kept as text, and flagged

A marker without an image is the row's problem: a model would see the marker's text instead of an
image. Pure functions over texts; linear time.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from thresher.pools.embedded import parse_image
from thresher.types import IMAGE_PLACEHOLDER

MAX_PATH_LENGTH = 4096  # characters of a path between <img> and </img>
_NAMED = re.compile(rf"<img>([^<>\n]{{1,{MAX_PATH_LENGTH}}})</img>")
_NUMBERED = re.compile(r"<\|?ima?ge?[ _-]?(\d{1,4})\|?>", re.IGNORECASE)
_TOKEN = re.compile(  # certainly a token for one image
    r"(?:<\|vision_start\|>)?<\|image_pad\|>(?:<\|image_pad\|>)*(?:<\|vision_end\|>)?|<\|vision_start\|>(?:<\|vision_end\|>)?"
    r"|(?:<start_of_image>)?<image_soft_token>(?:<image_soft_token>)*(?:<end_of_image>)?|<start_of_image>(?:<end_of_image>)?"
    r"|<\|image\|>|<\|image_?sentinel\|>|<image_?(?:here|placeholder|token|pad)>|<image\s?/>|<img></img>",
    re.IGNORECASE,
)
_WORD = re.compile(r"<(?:IMAGE|Image)>|\[(?:IMG|img)\]")  # may also occur in ordinary text
# Qwen-Audio: the text contains the path
_WITHIN = re.compile(rf"<(video|audio)>[^<>\n]{{1,{MAX_PATH_LENGTH}}}</\1>")
_EDGE = re.compile(r"\A\s*(<img>(?!</img>)|<video>|<audio>)|(<img>|<video>|<audio>)\s?\Z")
_GROUNDING = re.compile(r"</?(?:ref|box|quad)>|<\|(?:object_ref|box|quad)_(?:start|end)\|>")
_OBJECT = re.compile(r"<ref-object>|<bbox>")


class ResolvedMarkers(NamedTuple):
    """The row after conversion."""

    texts: list[str]
    images: list[str | bytes]
    replaced: bool = False  # whether a marker became a placeholder
    problem: str = ""  # "kind: explanation"; "": none


def resolve_markers(
    texts: list[str], images: list[str | bytes], video: bool, audio: bool
) -> ResolvedMarkers:
    """Convert the markers of a row whose number of `<image>` placeholders differs from that of its
    `images`, or that has neither.

    Arguments:
        texts: of the turns.
        images: of the record.
        video: whether the record has a video.
        audio: whether the record has audio.
    """
    paths = [path for text in texts if "</img>" in text for path in _NAMED.findall(text)]
    if paths:
        return _resolve_named(texts, images, paths)
    numbers = [int(n) for text in texts for n in _NUMBERED.findall(text)]
    if numbers:
        return _resolve_numbered(texts, images, numbers)
    # BBCode, not a marker
    bulletin = any("[/img]" in text.lower() for text in texts if "[" in text)
    certain = [m for text in texts for m in _TOKEN.findall(text)]
    word_markers = [
        m for text in texts for m in _WORD.findall(text) if not (bulletin and m[0] == "[")
    ]
    edges = [a or b for text in texts for a, b in _EDGE.findall(text)]
    tokens = certain + word_markers + [e for e in edges if e == "<img>"]
    if (
        tokens
        and len(tokens) == len(images)
        and not any(IMAGE_PLACEHOLDER in text for text in texts)
    ):
        return ResolvedMarkers(
            [_replace_tokens(text, bulletin) for text in texts], images, replaced=True
        )
    if images and tokens:
        return ResolvedMarkers(
            texts, images, problem=_count_mismatch(tokens[0], len(tokens), len(images))
        )
    if certain or "<img>" in edges:
        return ResolvedMarkers(
            texts, images, problem=_count_mismatch((certain or edges)[0], len(tokens), 0)
        )
    for text in texts:
        if "</" in text and (named := _WITHIN.search(text)):
            problem = (
                f"media-marker: {named[1]} is named inside the text ({named[0][:60]}), which is "
                "not read"
            )
            return ResolvedMarkers(texts, images, problem=problem)
    for kind, given in (("video", video), ("audio", audio)):
        if f"<{kind}>" in edges and not given:
            return ResolvedMarkers(
                texts,
                images,
                problem=f"media-marker: <{kind}> is in the text, but the row has no {kind}",
            )
    return ResolvedMarkers(texts, images)


def images_by_number(given: dict[Any, Any]) -> list[Any] | None:
    """The images of `{"<image_00>": "a.jpg", "<image_01>": …}` (MiniCPM-V) in order; None for any
    other object.
    """
    numbers = [_NUMBERED.fullmatch(key) if isinstance(key, str) else None for key in given]
    if not given or not all(numbers):
        return None
    ordered = sorted(
        zip([int(n[1]) for n in numbers if n], given.values(), strict=True),
        key=lambda pair: pair[0],
    )
    return [value for _, value in ordered]


def fill_objects(texts: list[str], objects: Any) -> tuple[list[str], str]:
    """(texts with ms-swift's `<ref-object>` and `<bbox>` replaced by the row's `objects`, problem
    or "").

    Arguments:
        texts: of the turns.
        objects: of the record.

    >>> fill_objects(["<ref-object> at <bbox>"], {"ref": ["cat"], "bbox": [[1, 2, 3, 4]]})
    (['cat at [(1,2),(3,4)]'], '')
    """
    found = [m for text in texts for m in _OBJECT.findall(text)]
    if not found:
        return texts, ""
    fields = objects if isinstance(objects, dict) else {}
    queues: dict[str, list[str]] = {}
    for tag, key in (("<ref-object>", "ref"), ("<bbox>", "bbox")):
        values = fields.get(key)
        values = values if isinstance(values, list) else []
        if found.count(tag) != len(values):
            problem = (
                f"grounding: {tag} occurs {found.count(tag)} times, but `objects` has "
                f"{len(values)} {key}"
            )
            return texts, problem
        queues[tag] = [_box(v) if key == "bbox" else str(v) for v in values][::-1]
    return [_OBJECT.sub(lambda m: queues[m[0]].pop(), text) for text in texts], ""


def has_grounding(texts: list[str]) -> bool:
    """Whether a text contains grounding tags, which only one family of models knows."""
    return any(_GROUNDING.search(text) for text in texts if "<" in text)


def _resolve_named(
    texts: list[str], images: list[str | bytes], paths: list[str]
) -> ResolvedMarkers:
    named = [parse_image(path.strip()) for path in paths]
    found = [image for image in named if image]
    if len(found) < len(named):
        return ResolvedMarkers(
            texts, images, problem="media-marker: an <img> in the text has no path"
        )
    if images and images != found:
        return ResolvedMarkers(
            texts,
            images,
            problem=f"media-marker: <img> names {len(found)} images that differ from `image`",
        )
    return ResolvedMarkers(
        [_NAMED.sub(IMAGE_PLACEHOLDER, text) for text in texts], found, replaced=True
    )


def _resolve_numbered(
    texts: list[str], images: list[str | bytes], numbers: list[int]
) -> ResolvedMarkers:
    first = min(numbers)
    expected = list(range(first, first + len(images)))
    if first > 1 or sorted(numbers) != expected or any(IMAGE_PLACEHOLDER in text for text in texts):
        tags = ", ".join(dict.fromkeys(f"<image{n}>" for n in numbers[:4]))
        count = "1 image" if len(images) == 1 else f"{len(images)} images"
        problem = f"media-marker: {tags} in the text does not name each of {count} once"
        return ResolvedMarkers(texts, images, problem=problem)
    ordered = [images[n - first] for n in numbers]
    return ResolvedMarkers(
        [_NUMBERED.sub(IMAGE_PLACEHOLDER, text) for text in texts], ordered, replaced=True
    )


def _replace_tokens(text: str, bulletin: bool) -> str:
    text = _TOKEN.sub(IMAGE_PLACEHOLDER, text)
    text = _WORD.sub(lambda m: m[0] if bulletin and m[0][0] == "[" else IMAGE_PLACEHOLDER, text)
    return _EDGE.sub(lambda m: m[0].replace("<img>", IMAGE_PLACEHOLDER), text)


def _count_mismatch(token: str, tokens: int, images: int) -> str:
    image_count = f"{images} image{'' if images == 1 else 's'}"
    return (
        f"media-marker: {tokens} x {token[:40]} (another model's token for an image) but "
        f"{image_count}"
    )


def _box(value: Any) -> str:
    """A box in ms-swift's generic notation: `[(x1,y1),(x2,y2)]`."""
    if not isinstance(value, list):
        return str(value)
    points = zip(value[::2], value[1::2], strict=False)
    return "[" + ",".join(f"({x},{y})" for x, y in points) + "]"
