"""Describes a file that was given as an image but has no supported format, and how to fix it.

The format is recognised from the first bytes. Each description is a phrase for a message.
"""

from __future__ import annotations

import re

from thresher.pools.embedded import looks_like_base64
from thresher.pools.image_formats import NAMES, brands

_CONVERT = "convert it to PNG or JPEG"
_DOWNLOAD = "download the image again"
_MAGIC = (
    (
        b"version https://git-lfs.github.com/spec/",
        ("a Git LFS pointer in place of the file: run `git lfs pull` there"),
    ),
    (
        b"version https://hawser.github.com/spec/",
        ("a Git LFS pointer in place of the file: run `git lfs pull` there"),
    ),
    (b"/annex/objects/", "a git-annex pointer in place of the file: run `git annex get` there"),
    (b"%PDF", f"a PDF document: {_CONVERT}"),
    (b"%!PS", f"PostScript (EPS), which is never run: {_CONVERT}"),
    (b"\xc5\xd0\xd3\xc6", f"PostScript (EPS), which is never run: {_CONVERT}"),
    (b"8BPS", f"a Photoshop document: {_CONVERT}"),
    (b"\xff\x0a", f"a JPEG XL image: {_CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"a JPEG XL image: {_CONVERT}"),
    (b"qoif", f"a QOI image: {_CONVERT}"),
    (b"v/1\x01", f"an OpenEXR image: {_CONVERT}"),
    (b"DDS ", f"a DDS texture: {_CONVERT}"),
    (b"icns", f"an Apple icon: {_CONVERT}"),
    (b"gimp xcf", f"a GIMP document: {_CONVERT}"),
    (b"#?RADIANCE", f"a Radiance HDR image: {_CONVERT}"),
    (b"SIMPLE  =", f"a FITS image: {_CONVERT}"),
    (b"\x93NUMPY", f"a numpy array: {_CONVERT}"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "a gzip file: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd file: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it"),
)
_HEIC = frozenset({"heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"})
_SVG = re.compile(r"<(?:\w+:)?svg[\s>]", re.IGNORECASE)
_HTML = re.compile(r"<!doctype\s+html|<(?:html|head|body|title|meta|script)[\s>]", re.IGNORECASE)


def describe_unsupported(head: bytes) -> str:
    """What a file with these first bytes (not empty) is, and how to fix it.

    >>> describe_unsupported(b"version https://git-lfs.github.com/spec/v1")
    'a Git LFS pointer in place of the file: run `git lfs pull` there'
    """
    for magic, description in _MAGIC:
        if head.startswith(magic):
            return description
    if found := frozenset(brands(head)):
        if found & _HEIC:
            return f"a HEIC image (as iPhones write them): {_CONVERT}"
        return "a video (MP4 or QuickTime)"
    if head[:4] == b"RIFF":
        return "an AVI video" if head[8:12] == b"AVI " else "a RIFF file with no image in it"
    if not head.strip(b"\0"):
        return f"only zero bytes: {_DOWNLOAD}"
    text = _decode_text(head)
    return _describe_text(text) if text else f"no known format ({NAMES} are read)"


def _describe_text(text: str) -> str:
    if looks_like_base64(text):
        return "an image as base64 text: decode it to a file of bytes"
    if _SVG.search(text):
        return "an SVG drawing: draw it as PNG"
    if _HTML.search(text):
        return f"an HTML page, as a failed download leaves it: {_DOWNLOAD}"
    if text.startswith("<"):
        return f"an XML document, perhaps a server's error message: {_DOWNLOAD}"
    if text.startswith(("{", "[")):
        return f"JSON text, perhaps a server's error message: {_DOWNLOAD}"
    return f"plain text, which begins with {text[:40]!a}"


def _decode_text(head: bytes) -> str:
    """The first bytes as text without leading white space; "" if they are not text."""
    if b"\0" in head:
        return ""
    text = head.decode("utf-8-sig", "ignore").lstrip()
    printable = sum(c.isprintable() or c.isspace() for c in text)
    return text if text and printable == len(text) and len(text) > len(head) // 4 else ""
