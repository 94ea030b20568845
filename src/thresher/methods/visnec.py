"""VisNec: keeps the rows whose answers depend most on the image or video, from every cluster of
questions.

arXiv:2603.01195. The gain of a row is the loss of its answer without its visual input (images, or
videos that are scored) minus the loss with it; docs/methods/visnec.md lists our choices. Pure
arithmetic on stored columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.errors import ConfigError
from thresher.methods.explanation import Evidence, Explanation, Histogram, Why
from thresher.methods.needs import LAYER, require_embedder, require_model
from thresher.methods.settings import setting
from thresher.samplers import largest_remainder
from thresher.samplers.ordering import order_by, stable_order
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.pooled_embedding import embedding_of
from thresher.signals.skills import Skills
from thresher.signals.visual_gain import VisualGain
from thresher.types import Columns, MethodContext, Selection, Signal

UNREAD = 0.5  # minimum share of rows whose visual input helps; below it a note warns


@dataclass(frozen=True)
class VisNec:
    """Takes the same share of every cluster of questions, highest visual gain first.

    Rows without an image or video have no gain; the same share of them is sampled at random from
    each cluster. Best first: by rank inside the cluster, relative to its size.
    """

    clusters: int = setting(20, "number of clusters of questions, at least 1")
    layer: float = setting(
        LAYER, "depth of the hidden states that are clustered, 0 (first layer) to 1 (last)"
    )

    name: ClassVar[str] = "visnec"
    paper: ClassVar[str] = "VisNec, arXiv:2603.01195"
    summary: ClassVar[str] = (
        "Answers that depend most on the image or video, in every cluster of questions."
    )

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise ConfigError(
                ": expected at least 1, such as 20.",
                option="settings.clusters",
                value=self.clusters,
            )
        if not 0 <= self.layer <= 1:
            raise ConfigError(
                ": expected 0 to 1, such as 0.5.", option="settings.layer", value=self.layer
            )

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        model = require_model(context, self.name)
        embedder = require_embedder(context, self.name, self.layer)
        question = embedding_of(embedder, self.layer, "question")
        return {
            "gain": VisualGain(AnswerLoss(model)),
            "skills": Skills(question, question, self.clusters),
        }

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        gain = np.asarray(columns["gain"]["gain"], np.float32)
        leaf = np.asarray(columns["skills"]["leaf"], np.int64)
        without = ~np.isfinite(gain)
        label = 2 * leaf + without
        group = (np.cumsum(np.bincount(label) > 0) - 1)[label]  # 0 to groups - 1
        size = np.bincount(group)
        score = np.where(without, 0, gain)
        order = stable_order(-score, columns.ties)
        order = order[order_by(group[order])]
        rank = np.empty(len(gain), np.int64)
        rank[order] = np.arange(len(gain)) - (np.cumsum(size) - size)[group[order]]
        quota = largest_remainder(budget, size, size)
        chosen = np.flatnonzero(rank < quota[group])
        part = rank[chosen] / size[group[chosen]]
        reason = {
            "image_gain": gain,
            "cluster": leaf.astype(np.int32),
            "cluster_words": np.asarray(columns["skills"]["words"], object),
            "cluster_rank": (rank + 1).astype(np.int32),
            "cluster_rows": size[group].astype(np.int32),
        }
        best_first = chosen[stable_order(part, columns.ties[chosen])]
        return Selection(best_first, reason, tuple(_notes(gain, without)))

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        names = ("image_gain", "cluster_words", "cluster_rank", "cluster_rows")
        if not evidence.has(*names):
            return Explanation()
        gain, words, rank, rows = (evidence.reasons[name] for name in names)

        def why(i: int) -> Why:
            kept = bool(evidence.kept[i])
            kind = "kept" if kept else "not kept"
            if not np.isfinite(gain[i]):
                return Why(
                    f"no image or video, {kind}",
                    f"{kind}: random sample of the rows without an image or video",
                )
            place = f"rank {rank[i]:,} of {rows[i]:,} in its cluster ({words[i]})"
            text = f"visual gain {gain[i]:+.2f} nats per token"
            against = "the visual input contradicts the answer"
            return Why(against if gain[i] < 0 else f"gain, {kind}", f"{kind}: {text}, {place}")

        lead = (
            "In every cluster of questions, the rows with the highest visual gain are kept: the "
            "loss of the answer without the image or video minus the loss with it."
        )
        return Explanation(
            why,
            lead,
            (Histogram("image_gain"),),
            drawn=frozenset({"image_gain"}),
            hidden=frozenset({"cluster", "cluster_rank", "cluster_rows"}),
        )


def _notes(gain: np.ndarray, without: np.ndarray) -> list[str]:
    if without.all():
        return [
            "No row has an image or a scored video: the selection is a random sample of every "
            "cluster."
        ]
    helped = float((gain[~without] > 0).mean())
    note = (
        f"The visual input makes the answer more likely in {helped:.0%} of the rows with an image "
        "or video."
    )
    if helped < UNREAD:
        note += " The model seems unable to read it, so the gain means little."
    return [note]
