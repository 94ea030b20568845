"""`--dedup`: before anything is scored, of rows that say the same only one is left for the method to see.

Which one: a row of --keep, else one that no problem is known of, else the first in canonical order. That depends on the
records alone, not on their order in the file nor on the seed. Computes (or loads) two signals of all rows through the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.duplicates.groups import exact_groups, near_groups
from thresher.duplicates.signals import ImageHash, TextMinhash
from thresher.errors import CapabilityError, TooManyFailures
from thresher.progress import counted
from thresher.types import Signal

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.progress import Progress
    from thresher.run import Column
    from thresher.store import Store


@dataclass(frozen=True)
class Representatives:
    """All arrays [n], pool order.

    `kept`: bool, one row of each group, and all of --keep. `group`: int64, the pool row that stands for the group; a row
    without a copy stands for itself. `copies`: int32, rows in the group, at least 1.
    """

    kept: np.ndarray
    group: np.ndarray
    copies: np.ndarray
    note: str


def representatives(
    pool: Pool,
    how: str,
    within: np.ndarray,
    keep: np.ndarray,
    store: Store,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Representatives:
    """`how`: exact or near. `within`: bool [n], rows that count; `keep`: bool [n], rows that stay whatever they repeat.

    A row with a picture that cannot be read is nobody's copy. Raises CapabilityError for semantic, MissingExtra without the
    extra `duplicates`, StoreError.
    """
    if how == "semantic":
        raise CapabilityError(
            "--dedup semantic needs embeddings of rows, which no model here gives yet. Give --dedup near, which compares "
            "words and pictures."
        )
    rows, group_of = _labelled(pool, how, within | keep, store, seed, progress)
    place = np.empty(len(pool), np.int64)
    place[pool.order] = np.arange(len(pool))
    flawed = np.zeros(len(pool), bool)
    flawed[list(pool.problems)] = True
    order = rows[np.lexsort((place[rows], flawed[rows], ~keep[rows]))]  # best representative first
    label = np.empty(len(pool), np.int64)
    label[rows] = group_of
    _, first, back, size = np.unique(label[order], return_index=True, return_inverse=True, return_counts=True)
    group = np.arange(len(pool))
    copies = np.ones(len(pool), np.int32)
    group[order] = order[first][back.reshape(-1)]
    copies[order] = size[back.reshape(-1)]
    kept = (group == np.arange(len(pool))) | keep
    gone = int((within & ~kept).sum())
    several = int((size > 1).sum())
    note = f"--dedup {how}: {counted(gone)} left out as copies, in {counted(several, 'group')}."
    return Representatives(kept, group, copies, note)


def _labelled(
    pool: Pool, how: str, within: np.ndarray, store: Store, seed: int, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """(pool rows that could be described, int64 [m]; their groups, int64 [m])."""
    described = _columns(
        {"text_minhash": TextMinhash(), "image_hash": ImageHash()}, pool, within, store, seed, progress
    )
    if described is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.flatnonzero(described["text_minhash"].known & described["image_hash"].known)
    texts, images = ({f: a[rows] for f, a in described[s].values.items()} for s in ("text_minhash", "image_hash"))
    return rows, (exact_groups if how == "exact" else near_groups)(texts, images)


def _columns(
    signals: dict[str, Signal],
    pool: Pool,
    within: np.ndarray,
    store: Store,
    seed: int,
    progress: Progress | None,
) -> dict[str, Column] | None:
    """None where not a single row could be described, such as when no picture can be read."""
    from thresher.run import compute_all  # a run asks for this stage

    try:
        return compute_all(signals, pool, store, seed, None, "exclude", False, progress, within=within)
    except TooManyFailures:
        return None
