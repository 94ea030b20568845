"""Images inside a record: bytes, data URIs and the structs of Hugging Face datasets, as opposed to
paths.

Pure functions over decoded values.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from thresher.pools.image_formats import HEAD, extension_of, sniff

_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]*)*,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MAGIC_BYTES = (b"/9j/", b"iVBO", b"R0lG", b"UklG")
_MIME = {"jpg": "jpeg", "ppm": "x-portable-pixmap", "ico": "x-icon"}
_LINES = re.compile(r"\s+")
MIN_BASE64_LENGTH = 64  # characters of an image as base64: the smallest image has more
_MAX_PLAIN_PATH = 512  # characters
# base64 of what image files begin with: a quick look that costs a path nothing
_BASE64_SIGNATURES = (
    "/9j/",  # JPEG
    "iVBORw0KGgo",  # PNG
    "R0lGOD",  # GIF
    "UklGR",  # RIFF, as WebP
    "Qk",  # BMP
    "UD",  # PPM
    "SUkq",  # TIFF
    "TU0AK",  # TIFF
    "AAAA",  # AVIF, JPEG 2000
    "AAABAA",  # ICO
    "/0//UQ",  # JPEG 2000
    "_9j_",  # JPEG, in the alphabet of URLs
    "_0__UQ",
)


def parse_image(value: Any) -> str | bytes | None:
    """A path (or address) or the bytes of one image, in any form that records use; None for
    anything else.

    Accepted: a path; `data:image/png;base64,…`; plain base64 that decodes to an image; `file:///…`;
    bytes; `{"bytes": …, "path": …}` (bytes take precedence; they may be base64 text); `{"url": …}`.

    >>> parse_image("a.jpg"), parse_image("data:image/png;base64,QUI=")
    ('a.jpg', b'AB')
    >>> parse_image({"bytes": None, "path": "b.jpg"}), parse_image(7)
    ('b.jpg', None)
    """
    if isinstance(value, str):
        if value[:5].lower() == "data:":
            return _decode_data_uri(value)
        if value[:8] == "file:///":
            return unquote(value[7:])
        return (
            _decode_base64(value) if looks_like_base64(value) or _is_other_base64(value) else value
        )
    if isinstance(value, (bytes, bytearray)):
        content = bytes(value)
        if content[:4] in _MAGIC_BYTES and (text := _ascii(content)) and looks_like_base64(text):
            return _decode_base64(text) or content
        return content
    if isinstance(value, dict):
        for key in ("bytes", "path", "url", "image"):
            inner = value.get(key)
            if inner and isinstance(inner, (str, bytes, bytearray)):
                if key == "bytes" and isinstance(inner, str) and not looks_like_base64(inner):
                    continue
                return parse_image(inner)
    return None


def looks_like_base64(text: str) -> bool:
    """Whether the beginning of a text looks like an image in base64 without `data:image/…;base64,`.

    >>> looks_like_base64("/9j/4AAQSkZJRgABAQAAAQABAAD/" + "2wBDAAgGBgcGBQgHBwcJ" * 4)
    True
    >>> looks_like_base64("/9j/a.jpg")
    False
    """
    if len(text) < MIN_BASE64_LENGTH:
        return False
    start = text[:512].lstrip()
    if not start.startswith(_BASE64_SIGNATURES):
        return False
    start = _standard_base64(start)
    if re.search(r"[^A-Za-z0-9+/=]", start):
        return False
    try:
        return bool(sniff(base64.b64decode(start[: len(start.rstrip("=")) // 4 * 4])))
    except (binascii.Error, ValueError):
        return False


def _is_other_base64(text: str) -> bool:
    """Whether a text is too long without a dot to be a path, and looks like base64 of something
    other than an image.
    """
    return (
        len(text) >= _MAX_PLAIN_PATH
        and "." not in text
        and bool(_BASE64.fullmatch(_standard_base64(text[:_MAX_PLAIN_PATH])))
    )


def data_uri(content: bytes) -> str:
    """The bytes of an image as `data:image/png;base64,…`."""
    name = extension(content)
    kind = _MIME.get(name, name)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def extension(content: bytes) -> str:
    """The usual extension for these bytes, without the dot: png, jpg, gif, webp, …; "img" for no
    known image.
    """
    return extension_of(content[:HEAD]) or "img"


def _decode_base64(text: str) -> bytes | None:
    """The bytes of base64 text; None if it is not valid base64."""
    plain = _standard_base64(text)
    if not _BASE64.fullmatch(plain):
        return None
    plain = plain.rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _standard_base64(text: str) -> str:
    """Base64 without line breaks, in the standard alphabet."""
    return _LINES.sub("", text).replace("-", "+").replace("_", "/")


def _ascii(content: bytes) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        return ""


def _decode_data_uri(uri: str) -> bytes | None:
    head = _DATA_URI.match(uri)
    if head is None:
        return None
    payload = uri[head.end() :]
    if not head[0].lower().endswith(";base64,"):
        return unquote_to_bytes(payload.encode("utf-8", "surrogatepass"))
    try:
        return base64.b64decode(payload, validate=False)
    except (binascii.Error, ValueError):
        return None
