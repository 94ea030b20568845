"""`--dedup`: before scoring, keeps only one row of each group of duplicates for the method.

Which one: a row of --keep, else the first in canonical order. A row with a problem is never a
duplicate. That depends on the records only, not on the file's order or the seed. Computes (or
loads) signals of all rows: text and image signatures or, for semantic, a model's embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import pluralize
from thresher.duplicates.embedding import NO_EMBEDDINGS, PooledRowEmbedding, RowEmbedding
from thresher.duplicates.groups import exact_groups, near_groups
from thresher.duplicates.near import THRESHOLD as NEAR_THRESHOLD
from thresher.duplicates.semantic import THRESHOLD as SEMANTIC_THRESHOLD
from thresher.duplicates.semantic import semantic_groups
from thresher.duplicates.signals import ExactHash, ImageHash, TextMinhash
from thresher.engine import RunContext, create_engine
from thresher.errors import CapabilityError, ConfigError, TooManyFailures, opt
from thresher.extras import missing_modules, require
from thresher.request import Dedup, RunRequest
from thresher.types import ModelIdentity, Signal

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.engine.columns import Column
    from thresher.pools import Pool


@dataclass(frozen=True)
class Representatives:
    """Result of deduplication. Arrays [n], pool order.

    `kept`: bool, one row of each group, and all of --keep. `group`: int64, the representative's
    pool row (its own for a row without duplicates). `copies`: int32, size of the group, >= 1.
    """

    kept: np.ndarray
    group: np.ndarray
    copies: np.ndarray
    note: str


def representatives(
    pool: Pool,
    within: np.ndarray,
    keep: np.ndarray,
    request: RunRequest,
    context: RunContext,
    *,
    score: bool = True,
) -> Representatives:
    """Choose a representative of each group of duplicates.

    A row with a known problem or an unreadable image is never a duplicate.

    Arguments:
        pool: the pool.
        within: bool [n], rows to consider.
        keep: bool [n], rows that are always kept.
        request: `dedup` (exact, near or semantic) and `dedup_threshold`.
        context: where signatures are stored; for semantic, the model.
        score: whether the model may be run; if not, and some rows are not scored yet, no row counts
            as a duplicate.

    Raises ConfigError (semantic without a model), CapabilityError (one without embeddings),
    MissingExtra without the extra `duplicates`, StoreError.
    """
    how, threshold = request.dedup, request.dedup_threshold
    if how == "near":
        require("duplicates", opt("dedup", "near"))
    scoring = RunRequest(seed=request.seed, on_missing="exclude")
    order = _representative_order(pool, keep)
    compared = within | keep
    compared[list(pool.problems)] = False  # content of such rows is unknown, so they may differ
    if how == "semantic":
        rows, group_of, label_of_note, unknown = _semantic_groups(
            pool, order, compared, scoring, context, threshold, score
        )
    else:
        rows, group_of = _signature_groups(pool, how, compared, scoring, context, threshold)
        label_of_note, unknown = opt("dedup", how), ""
    known = np.zeros(len(pool), bool)
    known[rows] = True
    order = order[known[order]]
    label = np.empty(len(pool), np.int64)
    label[rows] = group_of
    _, first, inverse, size = np.unique(
        label[order], return_index=True, return_inverse=True, return_counts=True
    )
    group = np.arange(len(pool))
    copies = np.ones(len(pool), np.int32)
    group[order] = order[first][inverse.reshape(-1)]
    copies[order] = size[inverse.reshape(-1)]
    kept = (group == np.arange(len(pool))) | keep
    removed = int((within & ~kept).sum())
    several = int((size > 1).sum())
    counts = f"{pluralize(removed)} left out as copies, in {pluralize(several, 'group')}."
    return Representatives(kept, group, copies, f"{label_of_note}: {unknown or counts}")


def _representative_order(pool: Pool, keep: np.ndarray) -> np.ndarray:
    """Row indices, int64 [n], preferred representatives first."""
    return np.lexsort((pool.rank, ~keep))


def embedding_signal(embedder: ModelHandle | None) -> RowEmbedding:
    """The signal for semantic duplicates. Raises ConfigError without a model, CapabilityError for
    one that gives no embeddings."""
    if embedder is None:
        raise ConfigError(
            f" needs a model. Give {opt('model', 'demo')}, a folder or a hub id.",
            option="dedup",
            value="semantic",
        )
    if not embedder.identity.embeds:
        raise CapabilityError(NO_EMBEDDINGS)
    kind = PooledRowEmbedding if embedder.identity.pooled else RowEmbedding
    return kind(embedder.identity)


def check_semantic(embedder: ModelIdentity, threshold: float | None, texts: bool) -> None:
    """Raise CapabilityError for a model without embeddings of images, and ConfigError if an
    embeddings server is used without a threshold: the default was measured on hidden states.

    Arguments:
        embedder: gives the embeddings.
        threshold: as the user gave it.
        texts: whether an embeddings server gets texts only.
    """
    if not embedder.embeds:
        raise CapabilityError(NO_EMBEDDINGS)
    if embedder.pooled and texts:
        raise CapabilityError(
            f"{opt('dedup', 'semantic')} compares images, and {opt('embed_text', True)} leaves "
            "them out: rows with different images would be copies. Leave it out, or use "
            f"{opt('dedup', 'near')}."
        )
    if embedder.pooled and threshold is None:
        raise ConfigError(
            " compares the vectors of a server here, whose cosines have a scale of their own: give "
            f"{opt('dedup_threshold')} (0.95 is the default for hidden states).",
            option="dedup",
            value="semantic",
        )


def _semantic_groups(
    pool: Pool,
    order: np.ndarray,
    within: np.ndarray,
    request: RunRequest,
    context: RunContext,
    threshold: float | None,
    score: bool,
) -> tuple[np.ndarray, np.ndarray, str, str]:
    """As `_signature_groups`; then the beginning of a note, and its end if nothing is known yet.

    `order`: all rows, preferred representatives first.
    """
    empty = np.zeros(0, np.int64)
    signal = embedding_signal(context.embedder)
    min_cosine = SEMANTIC_THRESHOLD if threshold is None else threshold
    if not score:
        engine = create_engine(pool, {signal.kind: signal}, request, context, within=within)
        if missing := int(engine.scoring_request(signal, signal.kind).missing.sum()):
            note = (
                "which rows are copies is known only after the model has processed "
                f"{pluralize(missing)}; no row is counted as one yet."
            )
            return empty, empty, opt("dedup", "semantic"), note
    found = _columns({signal.kind: signal}, pool, within, request, context)
    if found is None:
        return empty, empty, opt("dedup", "semantic"), ""
    known = found[signal.kind].known
    rows = np.flatnonzero(known)
    position = np.empty(len(pool), np.int64)
    position[rows] = np.arange(len(rows))
    values = {name: a[rows] for name, a in found[signal.kind].values.items()}
    left_out = int((within & ~known).sum())
    left_out_note = (
        f" ({pluralize(left_out)} that the model cannot process are never copies)"
        if left_out
        else ""
    )
    labels = semantic_groups(values, position[order[known[order]]], min_cosine)
    label = f"{opt('dedup', 'semantic')} (cosine of at least {min_cosine:g}){left_out_note}"
    return rows, labels, label, ""


def _signature_groups(
    pool: Pool,
    how: Dedup | None,
    within: np.ndarray,
    request: RunRequest,
    context: RunContext,
    threshold: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(pool rows with signatures, int64 [m]; their group labels, int64 [m])."""
    # If the optional packages are installed, exact and near share their columns; the groups are
    # the same either way.
    signals: dict[str, Signal] = {"exact_hash": ExactHash()}
    if how == "near" or not missing_modules("duplicates"):
        signals = {"text_minhash": TextMinhash(), "image_hash": ImageHash()}
    columns = _columns(signals, pool, within, request, context)
    if columns is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.flatnonzero(np.logical_and.reduce([column.known for column in columns.values()]))
    values = [{f: a[rows] for f, a in column.values.items()} for column in columns.values()]
    if how == "exact":
        return rows, exact_groups(values[0], values[-1])
    texts, images = values
    return rows, near_groups(texts, images, NEAR_THRESHOLD if threshold is None else threshold)


def _columns(
    signals: Mapping[str, Signal],
    pool: Pool,
    within: np.ndarray,
    request: RunRequest,
    context: RunContext,
) -> dict[str, Column] | None:
    """None if no row has a signature, such as when no image can be read."""
    from thresher.engine.columns import compute_all  # imported here: a run imports this module

    try:
        return compute_all(signals, pool, request, context, within)
    except TooManyFailures:
        return None
