"""Converts chat conversations of most tools to the LLaVA layout, which the rest of the package
uses.

Covers `messages` or `conversations` with role/content or from/value, content as text or as a list
of parts, images in a separate list or inside the parts, and a `system` text beside the turns.
Fields with no equivalent in the LLaVA layout keep their names. Pure functions over decoded values;
a value of an unexpected type is passed on unchanged, for `llava.parse` to report as the row's
problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.types import IMAGE_PLACEHOLDER

VIDEO_PLACEHOLDER = "<video>"
AUDIO_PLACEHOLDER = "<audio>"
# role -> LLaVA's `from`
LLAVA_ROLES = {"user": "human", "assistant": "gpt", "system": "system", "developer": "system"}
PARTS = {  # types of the parts of a turn that are read
    **dict.fromkeys(("text", "input_text", "output_text"), "text"),
    **dict.fromkeys(("image", "image_url", "input_image"), "image"),
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), "audio"),
}
_PAYLOAD_KEYS = ("image", "image_url", "url", "path", "source", "bytes")


def to_llava(
    record: Mapping[str, Any],
    key: str,
    *,
    images: tuple[str, ...] = ("images", "image"),
    system: str | None = "system",
    role: tuple[str, ...] = ("role", "from"),
    content: tuple[str, ...] = ("content", "value"),
    role_names: Mapping[str, str] = LLAVA_ROLES,
) -> dict[str, Any]:
    """`record` with its conversation under `conversations` and its images under `image`.

    Arguments:
        record: a decoded record; its other fields are kept.
        key: the field with the conversation.
        images: fields with images beside the conversation; the first non-empty one is used.
        system: the field with a system prompt; None: there is none.
        role: names of a turn's role, in order of preference.
        content: names of a turn's content, in order of preference.
        role_names: role -> human, gpt or system; other roles are kept.

    >>> parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Q"}]
    >>> to_llava({"messages": [{"role": "user", "content": parts}]}, "messages")
    {'image': ['a.png'], 'conversations': [{'from': 'human', 'value': '<image>Q'}]}
    """
    consumed = {key, *images}
    beside: list[Any] = []
    for name in images:
        value = record.get(name)
        if value:
            beside = list(value) if isinstance(value, list) else [value]
            break
    out: dict[str, Any] = {}
    for name, value in record.items():
        if name not in consumed:
            out[name] = value
    turns = _list_of_structs(record.get(key))
    if not isinstance(turns, list):
        out["conversations"] = turns
        return out
    media = _Media(beside)
    conversation = [_turn(turn, role, content, role_names, media) for turn in turns]
    system_text = None if system is None else out.get(system)
    if system is not None and isinstance(system_text, str):
        del out[system]
        if system_text:
            conversation.insert(0, {"from": "system", "value": system_text})
    if media.images or media.beside:
        out["image"] = media.images + media.beside
    if media.videos:
        out.setdefault("videos", media.videos)
    if media.audios:
        out.setdefault("audios", media.audios)
    out["conversations"] = conversation
    return out


class _Media:
    """The media in one row's parts, in order. An image part without content takes the next of the
    images beside the conversation.
    """

    def __init__(self, beside: list[Any]) -> None:
        self.beside = beside
        self.images: list[Any] = []
        self.videos: list[Any] = []
        self.audios: list[Any] = []


def _list_of_structs(turns: Any) -> Any:
    """The turns as a list: older versions of `datasets` store a list of structs as a struct of
    lists.
    """
    if isinstance(turns, dict) and turns and all(isinstance(v, list) for v in turns.values()):
        return [
            dict(zip(turns, values, strict=True)) for values in zip(*turns.values(), strict=False)
        ]
    return turns


def _turn(
    turn: Any,
    role: tuple[str, ...],
    content: tuple[str, ...],
    role_names: Mapping[str, str],
    media: _Media,
) -> Any:
    if not isinstance(turn, dict):
        return turn
    role_key = next((k for k in role if turn.get(k) is not None), "")
    content_key = next(
        (k for k in content if k in turn and (turn[k] is not None or k == content[-1])), ""
    )
    given_role = turn.get(role_key) if role_key else None
    text = turn.get(content_key) if content_key else None
    if isinstance(text, list):
        text = _text(text, media)
    out = {
        "from": role_names.get(given_role, given_role)
        if isinstance(given_role, str)
        else given_role,
        "value": text,
    }
    for name, value in turn.items():
        if name not in role and name not in content:
            out[name] = value
    return out


def _text(parts: list[Any], media: _Media) -> Any:
    """The parts as one text with placeholders; the list itself if a part is of an unknown type."""
    text = ""
    images: list[Any] = []
    videos: list[Any] = []
    audios: list[Any] = []
    beside = list(media.beside)
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        part_type = part.get("type") if isinstance(part, dict) else None
        kind = PARTS.get(part_type) if isinstance(part_type, str) else None
        if kind == "text" and isinstance(part.get("text"), str):
            text += part["text"]
        elif kind == "image":
            text += IMAGE_PLACEHOLDER
            payload = _payload(part)
            if payload is not None:
                images.append(payload)
            elif beside:
                images.append(beside.pop(0))
        elif kind == "video":
            text += VIDEO_PLACEHOLDER
            videos.append(_medium(part, part_type, kind))
        elif kind == "audio":
            text += AUDIO_PLACEHOLDER
            audios.append(_medium(part, part_type, kind))
        elif part_type is None and isinstance(part, dict) and isinstance(part.get("text"), str):
            text += part["text"]
        else:
            return parts
    media.images += images
    media.videos += videos
    media.audios += audios
    media.beside = beside
    return text


def _medium(part: dict[str, Any], part_type: str | None, kind: str) -> Any:
    """The content of a video or audio part; the whole part if none of the known fields is set."""
    return next(
        (part[name] for name in (part_type, kind, "path", "url") if name and part.get(name)), part
    )


def _payload(part: dict[str, Any]) -> Any:
    """The content of an image part; None if its image is beside the conversation."""
    for name in _PAYLOAD_KEYS:
        value = part.get(name)
        if value is None or value == "":
            continue
        if name == "source" and isinstance(value, dict) and isinstance(value.get("data"), str):
            return f"data:{value.get('media_type') or 'image/png'};base64,{value['data']}"
        return {"bytes": value} if name == "bytes" else value
    return None
