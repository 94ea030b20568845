"""Models for which an image changes the loss of every answer, and a pool in which half of the rows
have one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.text_pools import record, write_pool
from thresher.backends.fake import FakeBackend
from thresher.pools import Pool, open_pool
from thresher.types import Sample, SampleSource, Scored


class Sighted(FakeBackend):
    """An image changes the loss by `shift`."""

    shift = -1.0

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        for piece in super().answer_loss(samples, pool, among_images):
            bare = [not samples[i].images for i in piece.index.tolist()]
            piece.values["nll"] = np.where(bare, 10.0, 10.0 + self.shift).astype(np.float32)
            yield piece


class Blind(Sighted):
    shift = 1.0


def with_images(folder: Path, n: int) -> Pool:
    (folder / "images").mkdir()
    for i in range(n):
        Image.new("RGB", (8, 8), (i % 256, i // 256, 7)).save(folder / "images" / f"{i}.png")
    records = [record(i, f"{i}.png" if i % 2 else None) for i in range(n)]
    return open_pool(write_pool(folder / "pool.json", records), folder / "images")
