"""Some rows of a pool, as a pool: what the engine needs of one, with rows numbered anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thresher.types import ImageRef, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from thresher.pools import Pool


class Part:
    """`rows`: int64 [m], distinct rows of `pool`; row i of the part is row rows[i] of the pool. All
    are usable rows."""

    def __init__(self, pool: Pool, rows: np.ndarray) -> None:
        self.pool, self.rows = pool, np.asarray(rows, np.int64)
        self.digest: np.ndarray = pool.digest[self.rows]
        self.source: np.ndarray = pool.source[self.rows]
        self.source_names: tuple[str, ...] = pool.source_names
        self.images_folder: Path = pool.images_folder
        self.problems: Mapping[int, str] = {}
        number = np.full(len(pool), -1, np.int64)
        number[self.rows] = np.arange(len(self.rows))
        order = number[pool.order]
        self.order: np.ndarray = order[order >= 0]  # the pool's canonical order

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def facts(self) -> Mapping[str, np.ndarray]:
        return {name: values[self.rows] for name, values in self.pool.facts.items()}

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return self.pool.ids(self.rows[np.asarray(rows, np.int64)])

    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]:
        return self.pool.samples(self.rows[np.asarray(rows, np.int64)])

    def first_images(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return self.pool.first_images(self.rows[np.asarray(rows, np.int64)])

    def missing_image_reasons(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return self.pool.missing_image_reasons(self.rows[np.asarray(rows, np.int64)])

    def by_digest(self, digest: bytes) -> Sample:
        return self.pool.by_digest(digest)

    def load_image(self, ref: ImageRef) -> Image:
        return self.pool.load_image(ref)
