"""Images as data URIs: small ones as PNG (lossless), others as JPEG, reduced to a given longest
side.

The choice depends on the image alone, so a row sends the same bytes in any run. The pool gives RGB
images, rotated according to EXIF.
"""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any

from thresher.backends.openai.options import JPEG_QUALITY, PNG_PIXELS
from thresher.errors import ImageError
from thresher.types import ImageRef, SampleSource, VideoRef

MAX_CACHED = 64  # the images used last: rows of one image are requested one after the other


def data_uri(image: Any, side: int) -> str:
    """An image as it is sent.

    Arguments:
        image: RGB `PIL.Image`.
        side: longest side in pixels; larger images are reduced to it.
    """
    from PIL import Image

    longest = max(image.size)
    if longest > side:
        size = [max(1, round(edge * side / longest)) for edge in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if image.width * image.height <= PNG_PIXELS:
        image.save(out, "PNG")
        kind = "png"
    else:
        image.save(out, "JPEG", quality=JPEG_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


class ImageURIs:
    """Data URIs of a pool's images, with a cache of the last ones. Safe to use from several
    threads; an image that several threads need is encoded once.

    Arguments:
        pool: where images are loaded from.
        side: longest side in pixels; larger images are reduced to it.
    """

    def __init__(self, pool: SampleSource, side: int) -> None:
        self.pool, self.side = pool, side
        self._uris: OrderedDict[str, Future[str]] = OrderedDict()
        self._lock = threading.Lock()

    def uri(self, ref: ImageRef) -> str:
        """The image's data URI. Raises ImageError."""
        if isinstance(ref, VideoRef):
            raise ImageError("video: a model behind a server gets no videos", kind="video")
        with self._lock:
            cached = self._uris.get(ref.identity)
            future = cached if cached is not None else Future[str]()
            if cached is None:
                self._uris[ref.identity] = future
                while len(self._uris) > MAX_CACHED:
                    self._uris.popitem(last=False)
            else:
                self._uris.move_to_end(ref.identity)
        if cached is None:
            try:
                future.set_result(data_uri(self.pool.load_image(ref), self.side))
            # passed on to every thread that waits for this image; raised below
            except Exception as error:  # noqa: BLE001
                future.set_exception(error)
        return future.result()
