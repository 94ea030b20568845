"""The only module that opens images with Pillow.

An allow-list: Pillow supports dozens of formats, one of them (EPS) by running another program. Only
the plugin for the detected content is imported; the file name is ignored.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, BinaryIO

from thresher.errors import ImageError
from thresher.pools.image_formats import FORMATS, HEAD, sniff
from thresher.pools.unsupported_images import describe_unsupported

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_CODECS = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000", "JPEG": "jpg", "PNG": "zlib"}
_WEAK_SIGNATURES = frozenset(
    {"BMP", "PPM", "ICO"}
)  # two to four bytes that other files may begin with too


def open_image(file: BinaryIO, name: str) -> ImageFile:
    """The image in an open file; its header is read, nothing is decoded yet.

    Arguments:
        file: the open file.
        name: for messages.

    Raises ImageError: empty, none of FORMATS, a damaged header, or a format whose codec this Pillow
    lacks.
    """
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise ImageError(f"{name}: empty file (0 bytes)", kind="empty-image")
    form = sniff(head)
    if not form:
        raise ImageError(
            f"{name}: not an image that is read here: {describe_unsupported(head)}",
            kind="not-an-image",
        )
    factory = _image_factory(form, name)
    file.seek(0)
    try:
        # As Image.open does once a plugin has accepted the file; without its warning about large
        # images: the callers have their own limit (MAX_PIXELS).
        image: ImageFile = factory(file, "")
    except (SyntaxError, IndexError, TypeError, KeyError, EOFError) as error:
        if form in _WEAK_SIGNATURES:
            reason = f"it begins like {form} but has no valid header"
            raise ImageError(
                f"{name}: not an image that is read here: {reason}", kind="not-an-image"
            ) from None
        raise ImageError(f"{name}: broken image: {form} with a damaged header: {error}") from error
    return image


def _image_factory(form: str, name: str) -> Any:
    """The Pillow class for a format. Raises ImageError if Pillow was built without it."""
    from PIL import Image, features

    try:
        importlib.import_module(f"PIL.{FORMATS[form][0]}")
        factory = Image.OPEN[form][0]
    except (ImportError, KeyError):
        factory = None
    codec = _CODECS.get(form)
    if factory is None or (codec is not None and not features.check(codec)):
        raise ImageError(
            f"{name}: not an image that is read here: it is {form}, and the Pillow that is "
            "installed was built without it. Install a newer Pillow (pip install -U pillow), or "
            "convert the image.",
            kind="not-an-image",
        )
    return factory
