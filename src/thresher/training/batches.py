"""Training batches, encoded in the background one batch ahead of the model; rows that fail are
recorded.

Reads the pool; does not import torch. Encoded rows are cached for later epochs as far as memory
allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.training_encode import TrainingEncoder
from thresher.errors import PoolError, TooManyFailures, opt
from thresher.samplers.ordering import inverse_permutation
from thresher.types import TrainingRows

if TYPE_CHECKING:
    from thresher.backends.hf.backend import HFBackend
    from thresher.backends.hf.blocks import ImageKey
    from thresher.backends.hf.forward import EncodedRow
    from thresher.backends.hf.images import PreparedImage
    from thresher.backends.hf.training_loss import EndOfTurn, Targets

CACHE_BYTES = 2**30  # of encoded rows and images, cached between epochs
MAX_FAILURES_WITHOUT_SUCCESS = 256  # stop when this many rows failed and none succeeded


@dataclass(frozen=True)
class UnusableRow:
    """A row that could not be trained on. `row`: in the pool; `id`: as the user wrote it."""

    row: int
    id: str
    error: str


@dataclass(slots=True)
class Batch:
    """Encoded rows of one forward pass; `requested`: how many rows it should have had."""

    rows: list[EncodedRow]
    targets: list[Targets]
    images: dict[ImageKey, PreparedImage]
    requested: int

    @property
    def tokens(self) -> int:
        """The number of target tokens."""
        return sum(len(t.token) for t in self.targets)


def split_usable(
    pool: TrainingRows, rows: np.ndarray | None
) -> tuple[np.ndarray, list[UnusableRow]]:
    """The rows that can be tried, in an order independent of the file's, and those that cannot.

    Arguments:
        pool: the rows to train on.
        rows: int64 [r], pool rows; None: all.

    Raises PoolError if there are no rows, TooManyFailures if none can be tried.
    """
    rank = inverse_permutation(pool.order)
    requested = np.arange(len(pool)) if rows is None else np.asarray(rows, np.int64)
    if len(requested) == 0:
        raise PoolError(f"{pool.path}: there are no rows to train on.")
    requested = requested[np.argsort(rank[requested], kind="stable")]
    distinct = np.unique(requested)
    missing = distinct[np.asarray(pool.facts["missing_images"])[distinct].astype(bool)]
    reasons = dict(zip(missing.tolist(), pool.missing_image_reasons(missing), strict=True))
    reasons |= {row: pool.problems[row] for row in distinct.tolist() if row in pool.problems}
    usable = requested[~np.isin(requested, np.array(sorted(reasons), np.int64))]
    unusable = describe_unusable(pool, reasons)
    if len(usable) == 0:
        raise all_failed_error(unusable)
    return usable, unusable


def describe_unusable(pool: TrainingRows, reasons: dict[int, str]) -> list[UnusableRow]:
    """Rows that cannot be trained on, with ids and reasons, in the order of the pool.

    Arguments:
        pool: the rows to train on.
        reasons: pool row -> why.
    """
    rows = sorted(reasons)
    return (
        [UnusableRow(row, id, reasons[row]) for row, id in zip(rows, pool.ids(rows), strict=True)]
        if rows
        else []
    )


def all_failed_error(unusable: Sequence[UnusableRow]) -> TooManyFailures:
    reasons = Counter(u.error for u in unusable).most_common(3)
    summary = "; ".join(f"{reason} ({n:,})" for reason, n in reasons)
    return TooManyFailures(
        f"None of the rows can be trained on ({len(unusable):,} tried). Reasons: {summary}. Check "
        f"{opt('images')}, and run `thresher doctor` on the file."
    )


class Batches:
    """The batches of one training. `batch(k)` returns batch k and starts encoding batch k + 1.

    `errors`: pool row -> why it could not be encoded, so far (including the run that is resumed);
    `encoded`: rows encoded so far.

    Arguments:
        backend: encodes rows.
        ends: the end-of-turn token, which is trained after each answer.
        pool: the rows to train on.
        rows: int64 [r], pool rows.
        plan: for each batch, the indices of its rows into `rows`.
    """

    def __init__(
        self,
        backend: HFBackend,
        ends: EndOfTurn,
        pool: TrainingRows,
        rows: np.ndarray,
        plan: list[np.ndarray],
    ) -> None:
        self.errors: dict[int, str] = {}
        self.encoded = 0
        self._backend, self._ends, self._pool = backend, ends, pool
        self._encoder = TrainingEncoder(backend.encoder.processor)
        self._rows, self._plan = rows, plan
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._pending: dict[int, Future[Batch]] = {}
        self._cached: dict[int, tuple[EncodedRow, Targets]] = {}
        self._images: dict[ImageKey, PreparedImage] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self._plan)

    def requested(self, start: int, stop: int) -> int:
        """Rows in the batches start … stop - 1.

        Arguments:
            start: number of the first batch.
            stop: number after the last batch.
        """
        return sum(len(b) for b in self._plan[start:stop])

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Batch]:
        """The data loader's collate function; an item is the number of a batch."""
        (item,) = items
        return {"batch": self.batch(int(item["batch"]))}

    def batch(self, k: int) -> Batch:
        """Batch k. Raises TooManyFailures if many rows were tried and all failed."""
        pending = self._pending.pop(k, None)
        ready = pending.result() if pending is not None else self._encode(k)
        if k + 1 < len(self._plan) and k + 1 not in self._pending:
            self._pending[k + 1] = self._executor.submit(self._encode, k + 1)
        if not self.encoded and (
            len(self.errors) >= MAX_FAILURES_WITHOUT_SUCCESS or k + 1 == len(self._plan)
        ):
            raise all_failed_error(describe_unusable(self._pool, self.errors))
        return ready

    def _encode(self, k: int) -> Batch:
        """Encode one batch, in the background."""
        requested = self._rows[self._plan[k]].tolist()
        new = [
            r for r in dict.fromkeys(requested) if r not in self._cached and r not in self.errors
        ]
        encoded_now: dict[int, tuple[EncodedRow, Targets]] = {}
        images: dict[ImageKey, PreparedImage] = {}
        if new:
            conversations = [conversation(sample) for sample in self._pool.samples(new)]
            block = self._backend.prepare(
                conversations, range(len(new)), self._pool, False, self._encoder
            )
            self.errors.update({new[i]: reason for i, reason in block.errors.items()})
            encoded_now = {
                new[i]: (row, self._ends.targets(row))
                for i, row in zip(block.index, block.rows, strict=True)
            }
            images = block.images
            self.encoded += len(encoded_now)
            self._cache(encoded_now, images)
        encoded = [
            encoded_now.get(r) or self._cached[r]
            for r in requested
            if r in encoded_now or r in self._cached
        ]
        batch_images = {
            key: images[key] if key in images else self._images[key]
            for row, _ in encoded
            for key in row.images
        }
        return Batch(
            [row for row, _ in encoded],
            [targets for _, targets in encoded],
            batch_images,
            len(requested),
        )

    def _cache(
        self,
        encoded_now: dict[int, tuple[EncodedRow, Targets]],
        images: dict[ImageKey, PreparedImage],
    ) -> None:
        size = sum(
            row.ids.nbytes + row.answer_positions.nbytes + t.position.nbytes * 2
            for row, t in encoded_now.values()
        )
        size += sum(_image_bytes(p) for key, p in images.items() if key not in self._images)
        if self._cached_bytes + size <= CACHE_BYTES:
            self._cached_bytes += size
            self._cached.update(encoded_now)
            self._images.update(images)


def _image_bytes(image: PreparedImage) -> int:
    return sum(value.nbytes for value in image.inputs.values())
