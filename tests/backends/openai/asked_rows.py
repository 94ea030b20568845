"""Samples, queries and images for tests of a server, and answers in sample order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from thresher.errors import ImageError
from thresher.signals.query import Query
from thresher.types import ImageRef, Sample, Turn

SCORE = Query("\nScore?", ("0", "1", "2", "3", "4", "5"))
SURE = Query("\nSure?", ("Yes", "No"))


class Images:
    """The images of a pool: every path is a small image, except `broken.png`."""

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)

    def load_image(self, ref: ImageRef) -> Any:
        if ref.path == "broken.png":
            raise ImageError("broken.png: broken image: cut off")
        return Image.new("RGB", (20, 10), (200, 30, len(ref.path)))


def rows(count: int, text: str = "Question {}?") -> list[Sample]:
    """Samples as judges derive them: one user turn."""
    return [Sample(str(i), (Turn("user", text.format(i)),)) for i in range(count)]


def collect(pieces: Iterator[Any], count: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Values and errors in the order of the samples; every row exactly once."""
    found = list(pieces)
    index = np.concatenate([p.index for p in found]) if found else np.zeros(0, np.int64)
    assert sorted(index.tolist()) == list(range(count))
    back = np.argsort(index)
    values = {f: np.concatenate([p.values[f] for p in found])[back] for f in found[0].values}
    errors = [e for p in found for e in p.errors]
    return values, [errors[i] for i in back.tolist()]
