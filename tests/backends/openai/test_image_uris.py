"""Encoding of images in requests."""

from __future__ import annotations

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.tiny_models import picture
from thresher.backends.openai.image_uris import ImageURIs, data_uri
from thresher.errors import ImageError
from thresher.types import ImageRef, Sample


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_small_images_are_sent_losslessly() -> None:
    image = picture(256, 256)
    uri = data_uri(image, 1024)
    assert uri.startswith("data:image/png;base64,")
    assert np.array_equal(np.asarray(decoded(uri)), np.asarray(image))


@pytest.mark.parametrize(
    ("given", "side", "sent"),
    [
        ((2000, 1000), 1024, (1024, 512)),
        ((300, 1200), 600, (150, 600)),
        ((800, 600), 1024, (800, 600)),
        ((4000, 3), 100, (100, 1)),
    ],
)
def test_longest_side(given: tuple[int, int], side: int, sent: tuple[int, int]) -> None:
    image = decoded(data_uri(Image.new("RGB", given, "red"), side))
    assert image.size == sent
    assert image.format == ("JPEG" if sent[0] * sent[1] > 65536 else "PNG")


def test_jpeg_preserves_the_image() -> None:
    image = picture(400, 300)
    back = np.asarray(decoded(data_uri(image, 1024)).convert("RGB"), np.int16)
    assert np.abs(back - np.asarray(image)).mean() < 4


class Counting:
    """A pool that counts how often an image is read."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.lock = threading.Lock()

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)

    def load_image(self, ref: ImageRef) -> Image.Image:
        with self.lock:
            self.read.append(ref.path)
        if ref.path == "bad":
            raise ImageError("bad: not an image")
        return picture(64, 64, seed=len(self.read))


def test_an_image_of_many_rows_is_encoded_once() -> None:
    pool = Counting()
    image_uris = ImageURIs(pool, 1024)
    with ThreadPoolExecutor(8) as threads:
        uris = list(threads.map(lambda i: image_uris.uri(ImageRef(path="ab"[i % 2])), range(40)))
    assert sorted(pool.read) == ["a", "b"] and len(dict.fromkeys(uris)) == 2


def test_broken_image_fails_all_its_rows() -> None:
    image_uris = ImageURIs(Counting(), 1024)
    for _ in range(2):
        with pytest.raises(ImageError, match="not an image"):
            image_uris.uri(ImageRef(path="bad"))


def test_cache_is_small() -> None:
    pool = Counting()
    image_uris = ImageURIs(pool, 1024)
    for i in range(80):
        image_uris.uri(ImageRef(path=f"{i}"))
    image_uris.uri(ImageRef(path="79"))
    image_uris.uri(ImageRef(path="0"))
    assert pool.read == [*(f"{i}" for i in range(80)), "0"]
