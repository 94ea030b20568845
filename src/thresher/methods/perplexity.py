"""The rows whose answers have the highest, a middle, or the lowest perplexity under the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.methods.explanation import Evidence, Explanation, by_one_number
from thresher.methods.needs import require_model
from thresher.methods.settings import setting
from thresher.samplers import argsort_descending
from thresher.samplers.ordering import inverse_permutation, stable_order
from thresher.signals.answer_loss import AnswerLoss
from thresher.types import Columns, MethodContext, Selection, Signal


@dataclass(frozen=True)
class Perplexity:
    """Orders rows by the NLL of the answer, and so by the perplexity exp(NLL); ties in the order of
    a seeded hash.

    Best first: top: highest first; bottom: lowest first; middle: nearest to the median rank first.
    """

    where: Literal["top", "middle", "bottom"] = setting(
        "middle", "top: the highest perplexity; bottom: the lowest; middle: around the median"
    )

    name: ClassVar[str] = "perplexity"
    paper: ClassVar[str] = "Marion et al., When Less is More, arXiv:2309.04564"
    summary: ClassVar[str] = "Answers of high, middle or low perplexity under the model."

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {"loss": AnswerLoss(require_model(context, self.name))}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        nll = np.asarray(columns["loss"]["nll"], np.float32)
        score = nll
        if self.where == "bottom":
            score = -nll
        elif self.where == "middle":
            # ranks, not values: the median of a long-tailed NLL has most of its neighbours on one
            # side
            rank = inverse_permutation(stable_order(nll, columns.ties))
            score = -np.abs(2 * rank - (len(nll) - 1))
        return Selection(argsort_descending(score, columns.ties)[:budget], {"nll": nll})

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        ends = {"top": "the most surprising answers", "bottom": "the least surprising answers"}
        goal = ends.get(str(evidence.settings.get("where")), "the answers nearest to the median")
        what, unit = "log-perplexity of the answer", "nats per token"
        return Explanation(by_one_number(evidence, "nll", what, unit, f"{goal} are kept"))
