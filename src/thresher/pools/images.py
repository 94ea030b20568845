"""Decodes one image to RGB, or raises an ImageError with the reason.

The file is opened only after its resolved path is known to be in the image folder; its size in
pixels is read from the header before anything is decoded. Transparency is blended with white, the
EXIF orientation applied, 16-bit scaled to 8, and the first frame of an animation used. Pillow
raises dozens of exception types on bad files: all become ImageError.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from thresher.errors import ImageError, reason_of
from thresher.pools.files import is_remote, no_answer, open_filesystem
from thresher.pools.image_opening import open_image
from thresher.pools.paths import printable, resolve_inside, unsafe_path_reason
from thresher.storage.retries import may_pass, retried
from thresher.types import CHANGED, ImageRef, RowError

IN_MEMORY = 256 << 20  # bytes: larger files are hashed and then decoded from disk
MAX_PIXELS = 100_000_000  # a 10,000 x 10,000 image; as RGB that is 300 MB

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_inside(folder: str, path: str) -> BinaryIO:
    """Open a file below a folder for reading. Raises ImageError: outside, missing, not a plain
    file.

    Arguments:
        folder: resolved.
        path: relative to it.
    """
    real = resolve_inside(folder, path)
    try:
        # The path is resolved: refuse a link created since then; a pipe must not block.
        descriptor = os.open(
            real, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK
        )
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(
            f"{printable(path)}: no such image in {folder}", kind="missing-image"
        ) from None
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{printable(path)}: cannot be read: "
            f"{getattr(error, 'strerror', None) or reason_of(error)}"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError(f"{printable(path)}: not a plain file")
    return open(descriptor, "rb")


def load_rgb(folder: str, ref: ImageRef, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image as RGB.

    Arguments:
        folder: the resolved image folder, or its address.
        ref: the image.
        max_pixels: images with more are refused.

    Raises ImageError.
    """
    if ref.data is not None:
        return decode(io.BytesIO(ref.data), "embedded image", max_pixels)[0]
    if is_remote(folder):
        return decode(io.BytesIO(_fetch(folder, ref)), printable(ref.path), max_pixels)[0]
    with _open_unchanged(folder, ref) as file:
        if ref.content and ref.size <= IN_MEMORY:
            return decode(io.BytesIO(_read_verified(file, ref)), printable(ref.path), max_pixels)[0]
        if ref.content:
            _check_digest(ref, sha256_of(file))
            file.seek(0)
        return decode(file, printable(ref.path), max_pixels)[0]


def read_bytes(folder: str, ref: ImageRef) -> bytes:
    """The bytes of an image file. Raises ImageError.

    Arguments:
        folder: the resolved image folder, or its address.
        ref: the image.
    """
    if ref.data is not None:
        return ref.data
    if is_remote(folder):
        return _fetch(folder, ref)
    with _open_unchanged(folder, ref) as file:
        return _read_verified(file, ref)


def _open_unchanged(folder: str, ref: ImageRef) -> BinaryIO:
    """Open an image that must have the size it had when the pool was opened, and have been readable
    then.
    """
    file = open_inside(folder, ref.path)
    size = os.fstat(file.fileno()).st_size
    if size != ref.size:
        file.close()
        raise _size_changed(ref, size)
    if not ref.content and not ref.trusted:
        file.close()
        raise _changed(ref, "it could not be read then")
    return file


def _read_verified(file: BinaryIO, ref: ImageRef) -> bytes:
    """All bytes of an open image, checked against its digest."""
    try:
        data = file.read()
    except OSError as error:
        raise ImageError(
            f"{printable(ref.path)}: cannot be read: {error.strerror or reason_of(error)}"
        ) from error
    if ref.content:
        _check_digest(ref, hashlib.sha256(data).hexdigest())
    return data


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of an open file of any size."""
    state = hashlib.sha256()
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def _check_digest(ref: ImageRef, found: str) -> None:
    if found != ref.content:
        raise _changed(ref, "other bytes of the same size")


def _fetch(folder: str, ref: ImageRef) -> bytes:
    if reason := unsafe_path_reason(ref.path):
        raise ImageError(f"{printable(ref.path)}: {reason}", kind=RowError.parse(reason).kind)
    if ref.size < 0:
        raise ImageError(f"{printable(ref.path)}: no such image in {folder}", kind="missing-image")
    fs, inner = open_filesystem(folder)
    try:
        data: bytes = retried(lambda: fs.cat_file(f"{inner.rstrip('/')}/{ref.path}"), folder)
    except Exception as error:  # remote file systems raise their own exceptions
        if may_pass(error):  # says nothing about the row
            raise no_answer(folder, error) from error
        raise ImageError(
            f"{printable(ref.path)}: cannot be read from {folder}: {reason_of(error)}"
        ) from error
    if len(data) != ref.size:
        raise _size_changed(ref, len(data))
    if ref.content:
        _check_digest(ref, hashlib.sha256(data).hexdigest())
    elif not ref.trusted:
        raise _changed(ref, "it could not be read then")
    return data


def _changed(ref: ImageRef, how: str) -> ImageError:
    detail = f"{printable(ref.path)} ({how}); open the pool again"
    return ImageError(str(RowError(CHANGED, detail)))


def _size_changed(ref: ImageRef, size: int) -> ImageError:
    before = "there was no such file" if ref.size < 0 else f"it had {ref.size} bytes"
    return _changed(ref, f"{before}, now {size}")


def decode(file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, str]:
    """The first frame as RGB, and Pillow's name of the format ("PNG", "JPEG" …). Raises ImageError.

    Arguments:
        file: the open file.
        name: for messages.
        max_pixels: of an image; a larger one is refused.
    """
    try:
        with open_image(file, name) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{name}: {width} x {height} pixels, more than {max_pixels:,} allowed; make "
                    "it smaller",
                    kind="huge-image",
                )
            orientation = _orientation(image)
            image.load()
            rgb = to_rgb(image)
            if orientation in _TRANSPOSE:
                rgb = rgb.transpose(_TRANSPOSE[orientation])
            return rgb, image.format or ""
    except ImageError:
        raise
    except (
        Image.DecompressionBombError
    ) as error:  # a frame or tile larger than declared in the header
        raise ImageError(f"{name}: too many pixels: {error}", kind="huge-image") from None
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, …
    except Exception as error:
        raise ImageError(f"{name}: broken image: {error or type(error).__name__}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode to RGB: transparent pixels over white; 16-bit and float greys scaled to 8
    bits, not clipped.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        if rgba.getchannel("A").getextrema() == (255, 255):
            # opaque: skip blending, which costs as much as decoding
            return rgba.convert("RGB")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_8_bit(np.asarray(image)).convert("RGB")
    return image.convert("RGB")


def _grey_to_8_bit(values: np.ndarray) -> Image.Image:
    """Wide greys [h, w] -> 8 bits: 16-bit integers by their high byte, others scaled by their
    maximum.
    """
    if values.dtype.kind in "iu":
        top = int(values.max())
        if values.dtype.itemsize == 2 or 255 < top <= 65535:
            scaled = np.clip(values, 0, 65535) >> 8
        elif top > 65535:
            scaled = np.clip(values, 0, None).astype(np.float64) * (255.0 / top)
        else:
            scaled = np.clip(values, 0, 255)
    else:
        finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        top_value = float(finite.max())
        scale = 255.0 if top_value <= 1.0 else 255.0 / top_value if top_value > 255.0 else 1.0
        scaled = np.clip(finite * scale, 0, 255)
    return Image.fromarray(scaled.astype(np.uint8), "L")


def _orientation(image: Image.Image) -> int:
    try:
        value: Any = image.getexif().get(0x0112)
        return int(value) if value is not None else 1
    # a damaged EXIF block must not make the image unusable
    except Exception:  # noqa: BLE001
        return 1
