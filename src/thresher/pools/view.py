"""What the engine, cards and notebook pages need of a pool: the interface that a stand-in in a test
or viewer implements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.pools.file_spec import FileSpec
from thresher.pools.index import Index
from thresher.types import ImageRef, Sample

if TYPE_CHECKING:
    from PIL.Image import Image


class PoolView(Protocol):
    """n rows, read-only. Arrays are in pool order, the file's."""

    @property
    def spec(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def images_folder(self) -> Path: ...
    @property
    def format(self) -> str: ...
    @property
    def sources(self) -> Sequence[FileSpec]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def index(self) -> Index: ...
    @property
    def source(self) -> np.ndarray: ...  # int32 [n], into source_names
    @property
    def source_names(self) -> tuple[str, ...]: ...
    @property
    def order(self) -> np.ndarray: ...  # int64 [n]: the rows in canonical order
    @property
    def facts(self) -> Mapping[str, np.ndarray]: ...  # each [n]
    def __len__(self) -> int: ...
    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]: ...
    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]: ...
    def load_image(self, ref: ImageRef) -> Image: ...
