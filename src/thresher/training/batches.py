"""Rows on their way into training: batches encoded in the background, one ahead of the model; rows
that fail are named.

Reads the pool and imports no torch; what is encoded once is kept for the next passes as far as
memory allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.conversation import conversation
from thresher.errors import PoolError, TooManyFailures
from thresher.samplers.ordering import inverse_permutation
from thresher.types import TrainingRows

if TYPE_CHECKING:
    from thresher.backends.hf.backend import HFBackend
    from thresher.backends.hf.blocks import ImageKey
    from thresher.backends.hf.forward import Row
    from thresher.backends.hf.images import Prepared
    from thresher.backends.hf.teach import EndOfTurn, Targets

KEEP_BYTES = 2**30  # encoded rows and images kept between passes
HOPELESS = 256  # so many failures and not one good row: stop


@dataclass(frozen=True)
class Unusable:
    """A row that could not be trained on. `row`: in the pool; `id`: as the user wrote it."""

    row: int
    id: str
    error: str


@dataclass(slots=True)
class Batch:
    """Encoded rows that go through the model together; `asked`: how many rows were to be in it."""

    rows: list[Row]
    targets: list[Targets]
    images: dict[ImageKey, Prepared]
    asked: int

    @property
    def tokens(self) -> int:
        """How many tokens are to be learnt."""
        return sum(len(t.token) for t in self.targets)


def usable(pool: TrainingRows, rows: np.ndarray | None) -> tuple[np.ndarray, list[Unusable]]:
    """The rows that can be tried, in an order that does not depend on the file's, and those that
    cannot.

    Raises PoolError when there is no row at all, TooManyFailures when none can be tried.
    """
    place = inverse_permutation(pool.order)
    wanted = np.arange(len(pool)) if rows is None else np.asarray(rows, np.int64)
    if len(wanted) == 0:
        raise PoolError(f"{pool.path}: there are no rows to train on.")
    wanted = wanted[np.argsort(place[wanted], kind="stable")]
    missing = pool.facts["missing_images"]
    bad: dict[int, str] = {}
    for row in np.unique(wanted).tolist():
        if why := pool.problems.get(row, ""):
            bad[row] = why
        elif missing[row]:
            bad[row] = f"an image is missing in {pool.images_folder}"
    good = wanted[~np.isin(wanted, np.array(sorted(bad), np.int64))]
    unusable = named(pool, bad)
    if len(good) == 0:
        raise all_failed(unusable)
    return good, unusable


def named(pool: TrainingRows, bad: dict[int, str]) -> list[Unusable]:
    rows = sorted(bad)
    return (
        [Unusable(row, id, bad[row]) for row, id in zip(rows, pool.ids(rows), strict=True)]
        if rows
        else []
    )


def all_failed(unusable: Sequence[Unusable]) -> TooManyFailures:
    reasons = Counter(u.error for u in unusable).most_common(3)
    told = "; ".join(f"{why} ({n:,})" for why, n in reasons)
    return TooManyFailures(
        f"None of the rows can be trained on ({len(unusable):,} tried). Reasons: {told}. Check "
        "--images, and run `thresher doctor` on the file."
    )


class Batches:
    """The batches of one training. `batch(k)` encodes batch k, or waits for it, and starts on k +
    1.

    `bad`: pool row -> why it could not be encoded, as found so far (or by the run that this one
    goes on from); `good`: rows encoded so far.
    """

    def __init__(
        self,
        backend: HFBackend,
        ends: EndOfTurn,
        pool: TrainingRows,
        rows: np.ndarray,
        plan: list[np.ndarray],
    ) -> None:
        self.bad: dict[int, str] = {}
        self.good = 0
        self._backend, self._ends, self._pool = backend, ends, pool
        self._rows, self._plan = rows, plan
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._coming: dict[int, Future[Batch]] = {}
        self._known: dict[int, tuple[Row, Targets]] = {}
        self._images: dict[ImageKey, Prepared] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self._plan)

    def asked(self, start: int, stop: int) -> int:
        """Rows in the batches start … stop - 1."""
        return sum(len(b) for b in self._plan[start:stop])

    def close(self) -> None:
        self._ahead.shutdown(wait=True, cancel_futures=True)

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Batch]:
        """What the data loader calls with one item, the number of a batch."""
        (item,) = items
        return {"batch": self.batch(int(item["batch"]))}

    def batch(self, k: int) -> Batch:
        """Raises TooManyFailures when many rows were tried and none was good."""
        coming = self._coming.pop(k, None)
        ready = coming.result() if coming is not None else self._encode(k)
        if k + 1 < len(self._plan) and k + 1 not in self._coming:
            self._coming[k + 1] = self._ahead.submit(self._encode, k + 1)
        if not self.good and (len(self.bad) >= HOPELESS or k + 1 == len(self._plan)):
            raise all_failed(named(self._pool, self.bad))
        return ready

    def _encode(self, k: int) -> Batch:
        """In the background, one batch at a time."""
        wanted = self._rows[self._plan[k]].tolist()
        new = [r for r in dict.fromkeys(wanted) if r not in self._known and r not in self.bad]
        fresh: dict[int, tuple[Row, Targets]] = {}
        images: dict[ImageKey, Prepared] = {}
        if new:
            talks = [conversation(sample) for sample in self._pool.samples(new)]
            block = self._backend.prepare(talks, range(len(new)), self._pool, False)
            self.bad.update({new[i]: why for i, why in block.errors.items()})
            fresh = {
                new[i]: (row, self._ends.targets(row))
                for i, row in zip(block.index, block.rows, strict=True)
            }
            images = block.images
            self.good += len(fresh)
            self._keep(fresh, images)
        there = [fresh.get(r) or self._known[r] for r in wanted if r in fresh or r in self._known]
        shown = {
            key: images[key] if key in images else self._images[key]
            for row, _ in there
            for key in row.images
        }
        return Batch(
            [row for row, _ in there], [targets for _, targets in there], shown, len(wanted)
        )

    def _keep(
        self, fresh: dict[int, tuple[Row, Targets]], images: dict[ImageKey, Prepared]
    ) -> None:
        size = sum(
            row.ids.nbytes + row.answers.nbytes + t.where.nbytes * 2 for row, t in fresh.values()
        )
        size += sum(_bytes(p) for key, p in images.items() if key not in self._images)
        if self._held + size <= KEEP_BYTES:
            self._held += size
            self._known.update(fresh)
            self._images.update(images)


def _bytes(image: Prepared) -> int:
    return sum(value.nbytes for value in image.inputs.values())
