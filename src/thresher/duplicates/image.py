"""Perceptual image signatures, 224 bytes: recognise an image re-encoded, resized or converted.

content    hash of the decoded RGB pixels: equal images, whatever the file
phash      imagehash's perceptual hash, 64 bits: finds candidates
dhash      imagehash's difference hash, 64 bits: the same, more stable for flat images
thumbnail  8 x 8 RGB averages: decides, because both hashes ignore colour
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import MissingExtra
from thresher.extras import install_command

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 8  # of the thumbnail
THUMBNAIL = 3 * SIDE * SIDE  # bytes
MAX_RMS = 4.0  # of 255: root mean square difference of two thumbnails of one image, at most
# of 255: the largest difference anywhere; a small object that was changed exceeds it
MAX_DIFFERENCE = 28
MAX_SHAPE = 0.05  # relative difference of the aspect ratios
PERCEPTUAL = np.dtype(
    [("phash", "<u8"), ("dhash", "<u8"), ("aspect", "<f4"), ("thumbnail", "u1", (THUMBNAIL,))]
)


@dataclass(frozen=True)
class ImageSignature:
    """One image. `content`: 16 bytes. `mark`: a PERCEPTUAL scalar as bytes, b"" if only exact."""

    content: bytes
    mark: bytes


def content(image: Image) -> bytes:
    """16 bytes, equal for images of equal size and pixels. `image`: RGB."""
    state = hashlib.blake2b(b"%d x %d " % image.size, digest_size=16)
    state.update(image.tobytes())
    return state.digest()


def content_signature(image: Image) -> ImageSignature:
    """A signature for exact duplicates only; needs only Pillow."""
    return ImageSignature(content(image), b"")


def image_signature(image: Image) -> ImageSignature:
    """The full signature of an RGB image. Raises MissingExtra without imagehash."""
    try:
        import imagehash
    except ImportError:
        raise MissingExtra(
            f"Near duplicates of images need imagehash: {install_command('duplicates')}"
        ) from None
    from PIL.Image import Resampling

    mark = np.zeros((), PERCEPTUAL)
    small = image if max(image.size) <= 256 else image.resize(_fitted(image.size), Resampling.BOX)
    grey = small.convert("L")  # shrink first: both hashes use few pixels
    mark["phash"] = _bits(imagehash.phash(grey).hash)
    mark["dhash"] = _bits(imagehash.dhash(grey).hash)
    mark["aspect"] = image.width / image.height
    mark["thumbnail"] = np.asarray(small.resize((SIDE, SIDE), Resampling.BOX), np.uint8).reshape(-1)
    return ImageSignature(content(image), mark.tobytes())


def are_similar(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Element-wise similarity of PERCEPTUAL arrays [m], bool [m].

    Arguments:
        a: PERCEPTUAL [m].
        b: PERCEPTUAL [m].
    """
    ta, tb = a["thumbnail"].astype(np.int16), b["thumbnail"].astype(np.int16)
    difference = np.abs(ta - tb)
    rms = np.sqrt((difference.astype(np.float32) ** 2).mean(axis=1))
    shape = np.abs(np.log(a["aspect"]) - np.log(b["aspect"])) <= MAX_SHAPE
    return np.asarray((rms <= MAX_RMS) & (difference.max(axis=1) <= MAX_DIFFERENCE) & shape)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    scale = 256 / max(size)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _bits(hash_: np.ndarray) -> int:
    return int.from_bytes(np.packbits(np.asarray(hash_).reshape(-1)).tobytes(), "big")
