"""Protocols of a pool. The engine accepts any `PoolView`, pages that describe a pool need a
`DescribedPool`. `Pool` implements both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from thresher.pools.file_spec import FileSpec
from thresher.pools.index import Index
from thresher.types import TrainingRows


class PoolView(TrainingRows, Protocol):
    """n rows to select from, read-only. Arrays are in pool order, that of the files."""

    source: np.ndarray  # int32 [n], index into `source_names`
    source_names: tuple[str, ...]

    @property
    def rank(self) -> np.ndarray:
        """int64 [n]: the index of each row in `order`; the inverse permutation."""

    @property
    def unreadable(self) -> np.ndarray:
        """bool [n]: records that are not a sample."""

    def raw(self, rows: Sequence[int] | np.ndarray) -> Iterator[bytes]:
        """The records' bytes, as JSON."""

    def first_images(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The identity of each row's first image; "" if it has none."""

    def missing_image_reasons(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Why each row's first missing image is missing; "" if none is."""


class DescribedPool(PoolView, Protocol):
    """A pool with its files and its index, for pages that describe it."""

    spec: str  # opens the same pool again
    format: str
    file_specs: tuple[FileSpec, ...]
    notes: tuple[str, ...]
    index: Index
    video_frames: int | None  # most frames of a video that are scored; None: not scored

    @property
    def has_problem(self) -> np.ndarray:
        """bool [n]: the rows of `problems`."""
