"""`--dedup`: before anything is scored, of rows that say the same only one is left for the method to see.

Which one: a row of --keep, else the first in canonical order. A row with a problem is nobody's copy. That depends on the
records alone, not on their order in the file nor on the seed. Computes (or loads) signals of all rows through the store: what
texts and pictures look like or, for semantic, what a model makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.words import counted
from thresher.duplicates.embedding import NO_STATES, RowEmbedding
from thresher.duplicates.groups import exact_groups, near_groups
from thresher.duplicates.near import THRESHOLD as ALIKE
from thresher.duplicates.semantic import THRESHOLD as CLOSE
from thresher.duplicates.semantic import semantic_groups
from thresher.duplicates.signals import ExactHash, ImageHash, TextMinhash
from thresher.engine import Means, begin
from thresher.errors import CapabilityError, ConfigError, TooManyFailures
from thresher.extras import missing, require
from thresher.types import Signal

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.engine.columns import Column
    from thresher.pools import Pool
    from thresher.storage.columns import Store


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
    threshold: float | None = None,
    model: ModelHandle | None = None,
    score: bool = True,
) -> Representatives:
    """`how`: exact, near or semantic. `within`: bool [n], rows that count; `keep`: bool [n], rows that stay whatever they repeat.

    `threshold`: similarity from which rows are copies; None: the default of `how`. `model`: for semantic, whose view counts.
    `score`: whether rows may be shown to the model now; if not and some were not yet, no row is taken for a copy.

    A row that a problem is known of, or with a picture that cannot be read, is nobody's copy.
    Raises ConfigError (semantic without a model), CapabilityError (a model behind a server),
    MissingExtra without the extra `duplicates`, StoreError.
    """
    if how == "near":
        require("duplicates", "--dedup near")
    means = Means(store, seed, model, on_missing="exclude", progress=progress)
    order = _best_first(pool, keep)
    compared = within | keep
    compared[list(pool.problems)] = False  # what such a row shows is not known, so it may differ from any other
    if how == "semantic":
        rows, group_of, note = _by_meaning(pool, order, compared, means, threshold, score)
    else:
        rows, group_of = _labelled(pool, how, compared, means, threshold)
        note = f"--dedup {how}"
    known = np.zeros(len(pool), bool)
    known[rows] = True
    order = order[known[order]]
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
    if not note.endswith("."):
        note = f"{note}: {counted(gone)} left out as copies, in {counted(several, 'group')}."
    return Representatives(kept, group, copies, note)


def _best_first(pool: Pool, keep: np.ndarray) -> np.ndarray:
    """int64 [n]: the rows, those that make better representatives first."""
    place = np.empty(len(pool), np.int64)
    place[pool.order] = np.arange(len(pool))
    return np.lexsort((place, ~keep))


def embedding_of(model: ModelHandle | None) -> RowEmbedding:
    """What semantic duplicates need of each row. Raises ConfigError without a model, CapabilityError for one behind a server."""
    if model is None:
        raise ConfigError("--dedup semantic asks a model what rows mean. Name one: --model demo, a folder or a hub id.")
    if model.identity.served:
        raise CapabilityError(NO_STATES)
    return RowEmbedding(model.identity)


def _by_meaning(
    pool: Pool,
    order: np.ndarray,
    within: np.ndarray,
    means: Means,
    threshold: float | None,
    score: bool,
) -> tuple[np.ndarray, np.ndarray, str]:
    """As `_labelled`, and what to say; a whole sentence where nothing is known yet. `order`: all rows, those that stay first."""
    nobody = np.zeros(0, np.int64)
    signal = embedding_of(means.model)
    least = CLOSE if threshold is None else threshold
    if not score:
        asked = begin(pool, {signal.kind: signal}, replace(means, progress=None), within=within)
        if missing := int(asked.request(signal).todo.sum()):
            note = (
                f"which rows are copies is known once {counted(missing)} passed the model; here none is taken for one."
            )
            return nobody, nobody, f"--dedup semantic: {note}"
    found = _columns({signal.kind: signal}, pool, within, means)
    if found is None:
        return nobody, nobody, "--dedup semantic"
    known = found[signal.kind].known
    rows = np.flatnonzero(known)
    place = np.empty(len(pool), np.int64)
    place[rows] = np.arange(len(rows))
    values = {name: a[rows] for name, a in found[signal.kind].values.items()}
    left_out = int((within & ~known).sum())
    aside = f" ({counted(left_out)} that the model cannot take are nobody's copy)" if left_out else ""
    labels = semantic_groups(values, place[order[known[order]]], least)
    return rows, labels, f"--dedup semantic (cosine of at least {least:g}){aside}"


def _labelled(
    pool: Pool,
    how: str,
    within: np.ndarray,
    means: Means,
    threshold: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(pool rows that could be described, int64 [m]; their groups, int64 [m])."""
    # Where the optional packages are installed, exact and near share their columns; the groups are the same either way.
    signals: dict[str, Signal] = {"exact_hash": ExactHash()}
    if how == "near" or not missing("duplicates"):
        signals = {"text_minhash": TextMinhash(), "image_hash": ImageHash()}
    described = _columns(signals, pool, within, means)
    if described is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.flatnonzero(np.logical_and.reduce([column.known for column in described.values()]))
    values = [{f: a[rows] for f, a in column.values.items()} for column in described.values()]
    if how == "exact":
        return rows, exact_groups(values[0], values[-1])
    texts, images = values
    return rows, near_groups(texts, images, ALIKE if threshold is None else threshold)


def _columns(
    signals: Mapping[str, Signal],
    pool: Pool,
    within: np.ndarray,
    means: Means,
) -> dict[str, Column] | None:
    """None where not a single row could be described, such as when no picture can be read."""
    from thresher.engine.columns import compute_all  # a run asks for this stage

    try:
        return compute_all(signals, pool, means, within)
    except TooManyFailures:
        return None
