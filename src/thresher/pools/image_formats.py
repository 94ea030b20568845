"""Which image formats are read, told from a file's first bytes, and the only place that opens an image with Pillow.

An allow-list: Pillow would open dozens of formats, one of them (EPS) by starting another program. Only the plugin that
the content names is imported and asked; a file name is never looked at.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from thresher.errors import ImageError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

HEAD = 512  # bytes that tell the format, or what else a file is

# Pillow's name of a format -> its plugin, and the extensions that say the same, the usual one first.
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "PNG": ("PngImagePlugin", ("png", "apng")),
    "JPEG": ("JpegImagePlugin", ("jpg", "jpeg", "jpe", "jfif", "mpo")),  # several in one file: MPO, its first is read
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

_CODECS = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000", "JPEG": "jpg", "PNG": "zlib"}
_WEAK = frozenset({"BMP", "PPM", "ICO"})  # two to four bytes that other files may begin with too
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
_BMP_HEADERS = frozenset(n.to_bytes(4, "little") for n in (12, 16, 40, 52, 56, 64, 108, 124))  # their sizes
_PPM = re.compile(rb"P[1-6f][ \t\r\n#]|P0CMYK|Py(?:P|RGBA|CMYK)\b")


def sniff(head: bytes) -> str:
    """Pillow's name of the format that the first bytes (`HEAD`, or fewer) announce; "" for none that is read.

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


def open_image(file: BinaryIO, name: str) -> ImageFile:
    """The image in an open file, its header read and nothing decoded yet. `name`: of the file, for messages.

    Raises ImageError: empty, none of FORMATS, a damaged header, or a format whose codec Pillow lacks here.
    """
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise ImageError(f"{name}: empty file (0 bytes)", kind="empty-image")
    form = sniff(head)
    if not form:
        from thresher.pools.foreign_images import described

        raise ImageError(f"{name}: not an image that is read here: {described(head)}", kind="not-an-image")
    factory = _factory(form, name)
    file.seek(0)
    try:
        # As Image.open does once a plugin has accepted the file; without its warning about large images: the callers
        # have a limit of their own (MAX_PIXELS).
        image: ImageFile = factory(file, "")
    except (SyntaxError, IndexError, TypeError, KeyError, EOFError) as error:
        if form in _WEAK:
            why = f"it begins like {form} and its header is none"
            raise ImageError(f"{name}: not an image that is read here: {why}", kind="not-an-image") from None
        raise ImageError(f"{name}: broken image: {form} with a damaged header: {error}") from error
    return image


def extension_of(head: bytes) -> str:
    """The usual extension, without the dot; "" for none of FORMATS."""
    form = sniff(head)
    return FORMATS[form][1][0] if form else ""


def fits(form: str, extension: str) -> bool:
    """Whether an extension (without the dot) says this format (Pillow's name)."""
    return extension in FORMATS["JPEG" if form == "MPO" else form][1]


def _factory(form: str, name: str) -> Any:
    """What makes an image of a file of this format. Raises ImageError where Pillow was built without it."""
    from PIL import Image, features

    try:
        importlib.import_module(f"PIL.{FORMATS[form][0]}")
        factory = Image.OPEN[form][0]
    except (ImportError, KeyError):
        factory = None
    codec = _CODECS.get(form)
    if factory is None or (codec is not None and not features.check(codec)):
        raise ImageError(
            f"{name}: not an image that is read here: it is {form}, and the Pillow that is installed was built without it. "
            "Install a newer Pillow (pip install -U pillow), or convert the image.",
            kind="not-an-image",
        )
    return factory


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO media file: the major one, and those that it says it is compatible with."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[i : i + 4] for i in range(16, size - 3, 4))}


def brands(head: bytes) -> Sequence[str]:
    """The brands of an ISO media file (HEIC, AVIF, MP4, …) as text, sorted; () for any other file."""
    return sorted(b.decode("latin-1") for b in _brands(head)) if head[4:8] == b"ftyp" else ()
