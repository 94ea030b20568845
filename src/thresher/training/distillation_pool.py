"""Distillation examples as training rows: the `TrainingRows` protocol for samples that are built
from a pool's rows and columns.

Examples are built again whenever they are read; only their digests are kept. Reads the pool, writes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.types import DIGEST, Columns, DistillationExamples, ImageRef, Sample, digests_to_array

if TYPE_CHECKING:
    from thresher.pools.view import PoolView

CHUNK = 4096  # rows of the pool that are parsed at once


class DistillationPool:
    """m training examples, numbered from 0. None has a problem: rows with one yield no example.

    Arguments:
        pool: the pool.
        rows: int64 [r], the pool rows that examples are built from.
        examples_of: builds the examples of a row.
        columns: columns over `rows`, in the same order.
    """

    def __init__(
        self, pool: PoolView, rows: np.ndarray, examples_of: DistillationExamples, columns: Columns
    ) -> None:
        assert len(columns) == len(rows)
        self._pool, self._rows, self._make_examples, self._columns = (
            pool,
            rows,
            examples_of,
            columns,
        )
        self.path: Path = pool.path
        self.images_folder: Path = pool.images_folder
        digests: list[bytes] = []
        origins: list[tuple[int, int]] = []
        for start in range(0, len(rows), CHUNK):
            block = rows[start : start + CHUNK]
            for position, sample in enumerate(pool.samples(block), start):
                examples = examples_of.of_row(sample, position, columns)
                digests += [example.digest for example in examples]
                origins += [(position, number) for number in range(len(examples))]
        self.digest: np.ndarray = digests_to_array(digests) if digests else np.zeros(0, DIGEST)
        self.order: np.ndarray = np.argsort(self.digest, kind="stable")
        self._origin = np.array(origins, np.int64).reshape(
            -1, 2
        )  # example -> (position in `rows`, index among the row's examples)

    def __len__(self) -> int:
        return len(self.digest)

    @property
    def facts(self) -> Mapping[str, np.ndarray]:
        return {"missing_images": np.zeros(len(self), bool)}

    @property
    def problems(self) -> Mapping[int, str]:
        return {}

    def missing_image_reasons(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """ "" for each example: none lacks an image."""
        return [""] * len(rows)

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The ids of the pool rows that the examples are built from."""
        return self._pool.ids(self._rows[self._origin[np.asarray(rows, np.int64), 0]])

    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]:
        """The examples, in the order of `rows`; each pool row is parsed once."""
        origins = self._origin[np.asarray(rows, np.int64)]
        positions = np.unique(origins[:, 0])
        parsed = self._pool.samples(self._rows[positions])
        examples_at = {
            position: self._make_examples.of_row(sample, position, self._columns)
            for position, sample in zip(positions.tolist(), parsed, strict=True)
        }
        return [examples_at[position][number] for position, number in origins.tolist()]

    def by_digest(self, digest: bytes) -> Sample:
        """The example with this digest. Raises KeyError."""
        matches = np.flatnonzero(self.digest == np.frombuffer(digest.ljust(32, b"\0"), DIGEST)[0])
        if not len(matches):
            raise KeyError(digest.hex())
        return self.samples(matches[:1])[0]

    def load_image(self, ref: ImageRef) -> Any:
        """As `Pool.load_image`."""
        return self._pool.load_image(ref)
