"""Images as data URIs: small ones as PNG, without loss; others as JPEG, made smaller to a stated
longest side.

The choice depends on the picture alone, so a row sends the same bytes in any run. Pixels come
through the pool, which turns them as EXIF says and makes them RGB.
"""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any

from thresher.backends.openai.options import JPEG_QUALITY, PNG_PIXELS
from thresher.types import ImageRef, SampleSource

KEPT = 64  # images encoded last: rows of one image are asked one after the other


def data_uri(image: Any, side: int) -> str:
    """An RGB `PIL.Image` as it is sent: nothing of it is longer than `side` pixels."""
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


class Pictures:
    """Data URIs of a pool's images, the last ones kept. Safe to use from several threads; each
    image is encoded once."""

    def __init__(self, pool: SampleSource, side: int) -> None:
        self.pool, self.side = pool, side
        self._kept: OrderedDict[str, Future[str]] = OrderedDict()
        self._lock = threading.Lock()

    def uri(self, ref: ImageRef) -> str:
        """Raises ImageError."""
        with self._lock:
            known = self._kept.get(ref.identity)
            made = known if known is not None else Future[str]()
            if known is None:
                self._kept[ref.identity] = made
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(ref.identity)
        if known is None:
            try:
                made.set_result(data_uri(self.pool.load_image(ref), self.side))
            # handed to every row that waits for this image; raised below
            except Exception as error:  # noqa: BLE001
                made.set_exception(error)
        return made.result()
