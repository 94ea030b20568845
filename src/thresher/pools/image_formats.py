"""The supported image formats, recognised by a file's first bytes; `image_opening.py` opens
them."""

from __future__ import annotations

import re
from collections.abc import Sequence

HEAD = 512  # bytes needed to detect a format

# Pillow's name of a format -> its plugin and the extensions of the format, the usual one
# first.
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "PNG": ("PngImagePlugin", ("png", "apng")),
    # several in one file: MPO, its first is read
    "JPEG": ("JpegImagePlugin", ("jpg", "jpeg", "jpe", "jfif", "mpo")),
    "WEBP": ("WebPImagePlugin", ("webp",)),
    "GIF": ("GifImagePlugin", ("gif",)),
    "BMP": ("BmpImagePlugin", ("bmp", "dib")),
    "TIFF": ("TiffImagePlugin", ("tiff", "tif")),
    "PPM": ("PpmImagePlugin", ("ppm", "pgm", "pbm", "pnm", "pfm")),
    "AVIF": ("AvifImagePlugin", ("avif", "avifs")),
    "JPEG2000": ("Jpeg2KImagePlugin", ("jp2", "j2k", "jpc", "j2c", "jpf", "jpx")),
    "ICO": ("IcoImagePlugin", ("ico",)),
}
NAMES = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, AVIF, JPEG 2000 and ICO"
EXTENSIONS = frozenset(e for _, extensions in FORMATS.values() for e in extensions)

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II\0*", "TIFF"),  # this and the next are wrong, and Pillow reads them
    (b"MM*\0", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\0\0\1\0", "ICO"),
)
# their sizes
_BMP_HEADERS = frozenset(n.to_bytes(4, "little") for n in (12, 16, 40, 52, 56, 64, 108, 124))
_PPM = re.compile(rb"P[1-6f][ \t\r\n#]|P0CMYK|Py(?:P|RGBA|CMYK)\b")


def sniff(head: bytes) -> str:
    """Pillow's name of the format that the first bytes (`HEAD`, or fewer) announce; "" for none
    that is read.

    >>> sniff(b"GIF89a"), sniff(b"%!PS-Adobe-3.0 EPSF-3.0"), sniff(b"BMW is a car")
    ('GIF', '', '')
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return "" if name == "BMP" and head[14:18] not in _BMP_HEADERS else name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and _brands(head) & {b"avif", b"avis"}:
        return "AVIF"
    return "PPM" if _PPM.match(head) else ""


def extension_of(head: bytes) -> str:
    """The usual extension, without the dot; "" for none of FORMATS."""
    form = sniff(head)
    return FORMATS[form][1][0] if form else ""


def extension_matches(form: str, extension: str) -> bool:
    """Whether an extension (without the dot) belongs to this format (Pillow's name).

    Arguments:
        form: Pillow's name of a format, such as "JPEG".
        extension: without the dot.
    """
    return extension in FORMATS["JPEG" if form == "MPO" else form][1]


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO media file: the major one and the compatible ones."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[i : i + 4] for i in range(16, size - 3, 4))}


def brands(head: bytes) -> Sequence[str]:
    """The brands of an ISO media file (HEIC, AVIF, MP4, …) as text, sorted; () for any other
    file."""
    return sorted(b.decode("latin-1") for b in _brands(head)) if head[4:8] == b"ftyp" else ()
