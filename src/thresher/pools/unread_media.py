"""Finds media in fields that are not read: `audio_path`, `frames`, `img` …

Recognised by the value, not by the field's name: a path or address with a media suffix, a `data:`
address, bytes of an image, or the struct that `datasets` writes for any of these. Without this
check, a row whose only medium is in such a field would be scored without it, and would count as a
copy of any other row with the same text. Pure functions over decoded values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from thresher.pools.embedded import looks_like_base64
from thresher.pools.image_formats import HEAD, sniff
from thresher.pools.suffixes import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES

MAX_PATH_LENGTH = 1024  # characters
# fields that are read, and those with a row's id and source
_READ_KEYS = frozenset(
    (
        *(
            "id",
            "image",
            "images",
            "video",
            "videos",
            "audio",
            "audios",
            "conversations",
            "messages",
            "texts",
        ),
        *("data_source", "source", "image_source", "dataset", "system", "tools", "objects"),
    )
)
_MAX_SUFFIX_LENGTH = 6


_TURN_KEYS = frozenset({"from", "value", "role", "content"})


class UnreadMedium(NamedTuple):
    """One medium, or a list of them. `kind`: image, video or audio."""

    field: str
    kind: str
    value: Any

    @property
    def problem(self) -> str:
        """The problem of a row that has no other medium."""
        description = {"image": "an image", "video": "a video", "audio": "audio"}[self.kind]
        return (
            f"unread-media: {description} in the field {self.field[:60]!r}, which is not read: "
            f"expected "
            f"in `{self.kind}`"
        )


def find_unread_media(record: Mapping[str, Any]) -> Iterator[UnreadMedium]:
    """The media in fields of a record (in the LLaVA form) or of its turns that nothing here reads,
    in order.

    >>> record = {"id": 1, "clip": "a/b.MP4", "note": "Look at 3.14", "wav": ["x.wav?v=1"]}
    >>> [(m.field, m.kind) for m in find_unread_media(record)]
    [('clip', 'video'), ('wav', 'audio')]
    """
    yield from _fields(record, _READ_KEYS)
    turns = record.get("conversations")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and len(turn) > 2:
            yield from _fields(turn, _TURN_KEYS)


def _fields(mapping: Mapping[str, Any], known: frozenset[str]) -> Iterator[UnreadMedium]:
    for field, value in mapping.items():
        if field not in known and value and (kind := _kind(value)):
            yield UnreadMedium(str(field), kind, value)


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return _kind(value[0]) if value and not isinstance(value[0], list) else ""
    if isinstance(value, dict):
        found = (_kind(value[key]) for key in ("bytes", "path", "url") if value.get(key))
        return next((kind for kind in found if kind), "")
    if isinstance(value, bytes):
        return _kind_of_bytes(value[:HEAD])
    if not isinstance(value, str):
        return ""
    if value[:5].lower() == "data:":
        kind = value[5:11].lower().partition("/")[0]
        return kind if kind in ("image", "video", "audio") else ""
    if len(value) > MAX_PATH_LENGTH:
        return "image" if looks_like_base64(value) else ""
    path = value.partition("?")[0].rstrip() if "://" in value or "?" in value else value
    stem, dot, suffix = path[-_MAX_SUFFIX_LENGTH - 1 :].rpartition(".")
    if not dot or not stem or "\n" in value:
        return "image" if len(value) > MAX_PATH_LENGTH // 8 and looks_like_base64(value) else ""
    suffix = suffix.lower()
    return (
        "image"
        if suffix in IMAGE_SUFFIXES
        else "video"
        if suffix in VIDEO_SUFFIXES
        else "audio"
        if suffix in AUDIO_SUFFIXES
        else ""
    )


def _kind_of_bytes(head: bytes) -> str:
    if sniff(head):
        return "image"
    if head.startswith((b"fLaC", b"OggS", b"ID3")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WAVE"
    ):
        return "audio"
    return "video" if head[4:8] == b"ftyp" or head.startswith(b"\x1aE\xdf\xa3") else ""
