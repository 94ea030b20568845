"""VisNec: the rows whose answers need the image most, of every kind of question.

arXiv:2603.01195. The gain of a row is the loss of its answer without the image minus that with it;
docs/methods/visnec.md says what was chosen. Pure arithmetic on stored columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.errors import ConfigError
from thresher.methods.explanation import Evidence, Explanation, Histogram, Why
from thresher.methods.needs import require_model
from thresher.methods.settings import setting
from thresher.samplers import largest_remainder
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import Embedding
from thresher.signals.skills import Skills
from thresher.signals.visual_gain import VisualGain
from thresher.types import Columns, MethodContext, Selection, Signal

UNREAD = 0.5  # share of images that help below which the model is said not to read them


@dataclass(frozen=True)
class VisNec:
    """The rows of the highest visual gain in every cluster of questions, which keeps its share.

    Rows without an image have no gain: those of a cluster keep their share, by a seeded draw. Best
    first: by rank inside the cluster, as a part of its rows.
    """

    clusters: int = setting(20, "number of clusters of questions, at least 1")
    layer: float = setting(
        0.5, "depth of the hidden states that are clustered, 0 (first layer) to 1 (last)"
    )

    name: ClassVar[str] = "visnec"
    paper: ClassVar[str] = "VisNec, arXiv:2603.01195"
    summary: ClassVar[str] = "Answers that need the image most, of every kind of question."

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise ConfigError(f"--set clusters={self.clusters}: at least 1, such as 20.")
        if not 0 <= self.layer <= 1:
            raise ConfigError(f"--set layer={self.layer}: from 0 to 1, such as 0.5.")

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        model = require_model(context, self.name)
        question = Embedding(model, self.layer, "question")
        return {
            "gain": VisualGain(AnswerLoss(model)),
            "skills": Skills(question, question, self.clusters),
        }

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        gain = np.asarray(columns["gain"]["gain"], np.float32)
        leaf = np.asarray(columns["skills"]["leaf"], np.int64)
        without = ~np.isfinite(gain)
        group = np.unique(2 * leaf + without, return_inverse=True)[1]
        size = np.bincount(group)
        score = np.where(without, 0, gain)
        order = np.lexsort((columns.ties, -score, group))
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
        best_first = chosen[np.lexsort((columns.ties[chosen], part))]
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
                return Why(f"no image, {kind}", f"{kind} by a draw among the rows without an image")
            place = f"{rank[i]:,} of {rows[i]:,} in its cluster ({words[i]})"
            says = f"the image makes the answer {gain[i]:+.2f} nats per token likelier"
            against = "the image speaks against the answer"
            return Why(against if gain[i] < 0 else f"gain, {kind}", f"{kind}: {says}, {place}")

        lead = (
            "Kept in every cluster of questions: the rows in which the image makes the answer "
            "likeliest, compared with the same conversation without it."
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
        return ["No row has an image: the selection is a random draw of every cluster."]
    helped = float((gain[~without] > 0).mean())
    note = f"The image makes the answer likelier in {helped:.0%} of the rows with one."
    if helped < UNREAD:
        note += " The model hardly reads these images, so the gain says little about the rows."
    return [note]
