"""Parses one LLaVA record into turns, images and problems.

`{"id": …, "image": "a.jpg" | ["a.jpg", …], "conversations": [{"from": "human", "value":
"<image>\\nQ"}, {"from": "gpt", "value": "A"}]}`

Roles: human or user, gpt or assistant, system. `image` (or `images`) missing, null or empty: a
text-only row. Texts are kept exactly. If images are given and no text contains `<image>`, one
`<image>` line per image is put before the first user turn, as LLaVA's trainers do; the record
itself is never changed.

Pure functions over decoded JSON. A row with a *problem* cannot be scored; a *flag* marks an unusual
row that can.

Longer than 400 lines because texts, media and flags of a record are read together.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from thresher.pools import chat, markers, unread_media
from thresher.pools.embedded import MIN_BASE64_LENGTH, parse_image
from thresher.text import too_deep
from thresher.types import IMAGE_PLACEHOLDER, RowError

# raise it when the same record is read differently: cached pools are then parsed again
VERSION = 8

ROLES = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
}
SOURCE_KEYS = ("data_source", "source", "image_source", "dataset")

# Flags, one bit each. Each is a doctor finding; the row is scored unchanged.
PLACEHOLDER_ADDED = 1
STARTS_WITH_ASSISTANT = 2
ENDS_WITH_USER = 4
USER_TWICE = 8
ASSISTANT_TWICE = 16
EMPTY_ANSWER = 32  # one of several
EMPTY_QUESTION = 64
LATE_SYSTEM = 128
MARKERS_READ = 256  # media markers of another tool became <image>
GROUNDING_FILLED = 512  # <ref-object> and <bbox> were filled from `objects`
GROUNDING_TAGS = 1024  # <ref>, <box>: tags of one family of models


# kind, field
_MEDIA = (("video", "video"), ("video", "videos"), ("audio", "audio"), ("audio", "audios"))
_MAX_NAME_LENGTH = 4096  # characters of a path or address; longer text is the medium's data

_DECODE = json.JSONDecoder().decode


class AmbiguousTurns(str):
    """Used in place of the turns: why they cannot be determined."""


class Parsed(NamedTuple):
    """One row. `roles` and `texts` have equal length; `images` are paths as the user wrote them, or
    embedded bytes.
    """

    roles: list[str]
    texts: list[str]
    images: list[str | bytes]
    source: str  # "": none named in the record
    problem: str  # "kind: words", "" = none known
    flags: int
    video: bool
    audio: bool = False
    # identities of media that no model reads (`types.Sample.media`)
    media: tuple[str, ...] = ()


def parse(record: Any, problem: str, raw: str) -> Parsed:
    """Parse one record.

    Arguments:
        record: decoded JSON; None if the reader found a `problem`.
        problem: of the reader; "": none.
        raw: the text of the record, which is used if the record cannot be read.

    >>> turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    >>> parse({"image": "a.jpg", "conversations": turns}, "", "").texts
    ['<image>\\nQ', 'A']
    """
    if problem:
        return _unreadable(problem, raw)
    if not isinstance(record, dict):
        return _unreadable(f"unreadable: {_describe_type(record)} instead of an object", raw)
    conversations = record.get("conversations")
    if not isinstance(conversations, list) or not conversations:
        if isinstance(conversations, AmbiguousTurns):
            reason = str(conversations)
        elif "conversations" in record:
            reason = "`conversations` is " + (
                "an empty list" if conversations == [] else _describe_type(conversations)
            )
        else:
            reason = "no `conversations`"
        return _unreadable(f"unreadable: {reason}", raw, _record_source(record))

    roles: list[str] = []
    texts: list[str] = []
    for turn in conversations:
        if not isinstance(turn, dict):
            problem = problem or (
                f"bad-turn: a turn is {_describe_type(turn)} instead of an object with from and "
                f"value"
            )
            roles.append("unknown")
            texts.append(json.dumps(turn, default=json_default))
            continue
        given_role, text = turn.get("from"), turn.get("value")
        role = ROLES.get(given_role) if type(given_role) is str else None
        if role is None:
            problem = (
                problem or f"unknown-role: {json.dumps(given_role, default=json_default)[:40]}"
            )
            role = "unknown"
        if type(text) is not str:
            problem = problem or f"bad-value: {_describe_non_text(text)}"
            text = "" if text is None else json.dumps(text, default=json_default)
        roles.append(role)
        texts.append(text)

    media: tuple[str, ...] = ()
    given_images = record.get("image")
    if given_images is None:
        given_images = record.get("images")
    if given_images is None or (not given_images and type(given_images) not in (int, float)):
        images: list[str | bytes] = []
    elif (
        type(given_images) is str
        and ":" not in given_images
        and len(given_images) < MIN_BASE64_LENGTH
    ):
        images = [given_images]
    else:
        images, image_problem, media = _parse_images(given_images)
        problem = problem or image_problem

    if (
        type(given_images) is dict
        and images == []
        and (numbered := markers.images_by_number(given_images)) is not None
    ):
        images, image_problem, media = _parse_images(numbered)
        problem = image_problem if RowError.parse(problem).kind == "bad-image" else problem

    video, audio = False, False
    for kind, key in _MEDIA:
        if key not in record or not record[key]:
            continue
        media = (*media, *_media_identities(kind, record[key]))
        video, audio = video or kind == "video", audio or kind == "audio"
    if video and not problem:
        problem = "video: not read unless the number of frames to read is given (--video-frames N)"
    if audio and not problem:
        problem = "audio: kept and counted, scored by no model yet"

    flags = 0
    placeholders = 0
    for text in texts:
        if "<" in text:
            placeholders += text.count(IMAGE_PLACEHOLDER)
    may_hold_markers = any("<" in text or "[" in text for text in texts)
    if may_hold_markers and (placeholders != len(images) or not images):
        resolved = markers.resolve_markers(texts, images, video, audio)
        if resolved.replaced:
            texts, images, flags = resolved.texts, resolved.images, MARKERS_READ
            placeholders = sum(text.count(IMAGE_PLACEHOLDER) for text in texts)
        problem = problem or resolved.problem
    if may_hold_markers and (
        "objects" in record or any("<bbox>" in text or "<ref-object>" in text for text in texts)
    ):
        filled, image_problem = markers.fill_objects(texts, record.get("objects"))
        if filled != texts:
            texts, flags = filled, flags | GROUNDING_FILLED
        problem = problem or image_problem
    if may_hold_markers and markers.has_grounding(texts):
        flags |= GROUNDING_TAGS
    for medium in unread_media.find_unread_media(record):
        if not images and not media and RowError.parse(problem).kind in ("", "media-marker"):
            problem = medium.problem
        # an additional image beside one that is read is probably a mask: ignored
        if medium.kind != "image" or problem == medium.problem:
            media = (*media, *_media_identities(medium.kind, medium.value))
    if placeholders != len(images):
        if placeholders == 0 and "user" in roles and RowError.parse(problem).kind != "media-marker":
            first = roles.index("user")
            texts[first] = (IMAGE_PLACEHOLDER + "\n") * len(images) + texts[first]
            flags |= PLACEHOLDER_ADDED
        elif not problem:
            plural = "" if len(images) == 1 else "s"
            problem = (
                f"placeholder-mismatch: {placeholders} <image> but {len(images)} image{plural}"
            )
    flags |= _shape_flags(roles, texts)
    if flags & EMPTY_ANSWER and not any(
        r == "assistant" and not _is_blank(t) for r, t in zip(roles, texts, strict=True)
    ):
        flags &= ~EMPTY_ANSWER
        problem = problem or "no-answer: every answer is empty"
    elif "assistant" not in roles:
        problem = problem or "no-answer: no assistant turn"
    if not problem and not is_encodable(texts):
        problem = "invalid-text: invalid UTF-8 or a lone surrogate, which no tokenizer takes"
    return Parsed(roles, texts, images, _record_source(record), problem, flags, video, audio, media)


def text_digest(roles: list[str], texts: list[str], media: tuple[str, ...] = ()) -> bytes:
    """The part of `Sample.digest` that the record determines, 32 bytes (see `types.row_digest`).

    Computed without building a Sample.

    Arguments:
        roles: of the turns.
        texts: of the turns, as many.
        media: identities of media that no model reads.
    """
    joined = "".join(
        [f"{role}\x1f{len(text)}\x1f{text}" for role, text in zip(roles, texts, strict=True)]
    )
    if joined.isascii():  # characters are bytes, so the lengths are right
        head = joined.encode("ascii")
    else:
        encoded = [
            (r.encode("utf-8", "surrogatepass"), t.encode("utf-8", "surrogatepass"))
            for r, t in zip(roles, texts, strict=True)
        ]
        head = b"".join([b"%s\x1f%d\x1f%s" % (role, len(text), text) for role, text in encoded])
    if media:
        head += b"".join([b"\x1d" + m.encode("utf-8", "surrogatepass") for m in media])
    return hashlib.sha256(head).digest()


def record_id(record: Any) -> str:
    """The id as JSON text ('"a1"', '7'); "" if there is none."""
    if type(record) is not dict or "id" not in record:
        return ""
    value = record["id"]
    if (
        type(value) is str
        and value.isascii()
        and value.isprintable()
        and '"' not in value
        and "\\" not in value
    ):
        return f'"{value}"'
    text = json.dumps(value, ensure_ascii=False, default=json_default)
    return text if is_encodable([text]) else json.dumps(value, default=json_default)


def decode(raw: bytes) -> Any:
    """The JSON value of a record's bytes; None if they are not valid JSON."""
    try:
        return None if too_deep(raw) else _DECODE(raw.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None


def canonical_record(record: Any, raw: bytes) -> bytes:
    """A hash that is equal for records of equal content in any layout; orders exact duplicates.

    Arguments:
        record: decoded JSON; None if it is invalid.
        raw: its bytes, which are hashed if it is invalid.
    """
    if record is None:
        return hashlib.sha256(raw).digest()
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), default=json_default)
    except (TypeError, RecursionError):  # keys of several types, or too deep for what writes JSON
        text = ascii(record)
    return hashlib.sha256(text.encode("ascii")).digest()


def json_default(value: Any) -> str:
    """The text of a value that JSON cannot represent: bytes by their hash, times and the like as
    printed.
    """
    return "sha256:" + hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def _unreadable(problem: str, raw: str, source: str = "") -> Parsed:
    # The text becomes the only turn, so that two different unreadable records have different
    # digests.
    return Parsed(["unknown"], [raw], [], source, problem, 0, False)


def _media_identities(kind: str, value: Any) -> Iterator[str]:
    """The entry of each medium of a field in the row's digest: its name, or a hash of its
    content."""
    for medium in value if isinstance(value, list) else [value]:
        if isinstance(medium, str) and len(medium) <= _MAX_NAME_LENGTH:
            yield f"{kind}:{medium}"
        else:
            yield f"{kind}:sha256:{canonical_record(medium, b'null').hex()}"


def _parse_images(given: Any) -> tuple[list[str | bytes], str, tuple[str, ...]]:
    """(images, problem, identities of those that cannot be read)."""
    if isinstance(given, (str, bytes)) or (isinstance(given, dict) and parse_image(given)):
        given = [given]
    if not isinstance(given, list):
        problem = (
            f"bad-image: `image` is {_describe_type(given)} instead of a path or a list of paths"
        )
        return [], problem, tuple(_media_identities("image", given))
    images: list[str | bytes] = []
    unread: list[str] = []
    problem = ""
    for value in given:
        if not value:
            continue
        image = parse_image(value)
        if image:
            images.append(image)
            continue
        unread += _media_identities("image", [value])
        if not problem:
            description = _describe_type(value)
            if isinstance(value, str):
                description = "a data: address" if value[:5].lower() == "data:" else "base64 text"
                description += " that cannot be decoded"
            problem = f"bad-image: an image is {description} instead of a path"
    return images, problem, tuple(unread)


def _shape_flags(roles: list[str], texts: list[str]) -> int:
    flags = 0
    if roles == ["user", "assistant"]:  # nearly every row
        if _is_blank(texts[1]):
            flags = EMPTY_ANSWER
        return flags | EMPTY_QUESTION if _is_blank(texts[0]) else flags
    speakers = [role for role in roles if role != "system"]
    if "system" in roles[1:]:
        flags |= LATE_SYSTEM
    if speakers and speakers[0] == "assistant":
        flags |= STARTS_WITH_ASSISTANT
    if speakers and speakers[-1] == "user":
        flags |= ENDS_WITH_USER
    for before, after in itertools.pairwise(speakers):
        if before == after == "user":
            flags |= USER_TWICE
        elif before == after == "assistant":
            flags |= ASSISTANT_TWICE
    for role, text in zip(roles, texts, strict=True):
        if _is_blank(text):
            flags |= (
                EMPTY_ANSWER if role == "assistant" else EMPTY_QUESTION if role == "user" else 0
            )
    return flags


def _record_source(record: dict[str, Any]) -> str:
    for key in SOURCE_KEYS:
        value = record.get(key)
        if value is None or value == "":
            continue
        if type(value) is str:
            return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
        if type(value) in (int, float, bool):
            return json.dumps(value)
    return ""


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def is_encodable(texts: list[str]) -> bool:
    for text in texts:
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                return False
    return True


def _describe_non_text(value: Any) -> str:
    """What a turn's value is instead of text: a list remains where one of its parts could not be
    read.
    """
    if isinstance(value, list):
        for part in value:
            if (
                isinstance(part, dict)
                and isinstance(part.get("type"), str)
                and part["type"] not in chat.PARTS
            ):
                return f"a turn has a part of type {part['type'][:40]!r}, which is not read"
    return f"a turn's value is {_describe_type(value)} instead of text"


def _describe_type(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")
