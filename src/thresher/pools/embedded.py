"""Images inside a record: bytes, data URIs and the structs that Hugging Face writes, against paths to files.

Pure functions over decoded values.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

_DATA = re.compile(r"data:[^,;]*(?:;[^,;]*)*,", re.IGNORECASE)
_EXTENSIONS = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


def image_of(value: Any) -> str | bytes | None:
    """A path (or address) or the bytes of one image, however a record says it; None where it says neither.

    Known: a path; `data:image/png;base64,…`; `file:///…`; bytes; `{"bytes": …, "path": …}` (bytes win); `{"url": …}`.

    >>> image_of("a.jpg"), image_of("data:image/png;base64,QUI="), image_of({"bytes": None, "path": "b.jpg"}), image_of(7)
    ('a.jpg', b'AB', 'b.jpg', None)
    """
    if isinstance(value, str):
        if value[:5].lower() == "data:":
            return _decoded(value)
        if value[:8] == "file:///":
            return unquote(value[7:])
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, dict):
        for key in ("bytes", "path", "url", "image"):
            inner = value.get(key)
            if inner and isinstance(inner, (str, bytes, bytearray)) and not (key == "bytes" and isinstance(inner, str)):
                return image_of(inner)
    return None


def data_uri(content: bytes) -> str:
    """`data:image/png;base64,…`"""
    kind = extension(content).replace("jpg", "jpeg")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def extension(content: bytes) -> str:
    """The usual extension for these bytes, without the dot: png, jpg, gif, webp, bmp, tiff; "img" for anything else."""
    for magic, name in _EXTENSIONS:
        if content.startswith(magic):
            return name
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else "img"


def _decoded(uri: str) -> bytes | None:
    head = _DATA.match(uri)
    if head is None:
        return None
    payload = uri[head.end() :]
    if not head[0].lower().endswith(";base64,"):
        return unquote_to_bytes(payload.encode("utf-8", "surrogatepass"))
    try:
        return base64.b64decode(payload, validate=False)
    except (binascii.Error, ValueError):
        return None
