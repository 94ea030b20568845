"""How much a row helps to train one capability according to a model, 0 to 5 (mmSSR,
arXiv:2503.13383).

The judge's prompt has the row's exchanges and one question; no text is generated. The score is the
expectation over the probabilities of the answers 0 … 5 at the first answer token, so it has few
ties; `best` is the most likely of them. One signal per capability; all capabilities and styles of a
model share one pass per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.console.formatting import percent_below
from thresher.signals.capabilities import Capability
from thresher.signals.prompts import read
from thresher.signals.query import Query, QuerySignalBase, relative_probabilities
from thresher.types import AnyModel, Field
from thresher.types import Capability as Need

ANSWERS = ("0", "1", "2", "3", "4", "5")
SYSTEM = read("mmssr_system")
QUERY = read("mmssr_capability")
NO_MASS = 0.01
"""Mean probability of the six answers below which the judge counts as giving none of them."""
NO_ANSWER = "no-probability: the judge gives no finite probability to any answer 0 to 5"
_WITHOUT_KIND = NO_ANSWER.partition(": ")[2]  # in stores of earlier versions


@dataclass(frozen=True)
class Judge(QuerySignalBase):
    """One question per row. Higher `score`: the row helps more."""

    model: AnyModel
    capability: Capability
    prompt: str = QUERY
    """Follows the row; `{capability}` is replaced by the capability's wording."""
    system: str = SYSTEM

    kind: ClassVar[str] = "judge"
    version: ClassVar[int] = 2  # 2: images stay where the row has them
    needs: ClassVar[Need] = Need.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "score",
            "float32",
            "expected answer, sum of k * p(k) / mass, 0 … 5; higher = helps more",
        ),
        Field("best", "int32", "the most likely of the answers 0 … 5; of equal ones, the smallest"),
        Field(
            "mass",
            "float32",
            "probability of all six answers together, 0 … 1; low: the judge answers something else",
        ),
    )

    def query(self) -> Query:
        return Query(self.prompt.replace("{capability}", self.capability.wording), ANSWERS)

    def read(self, logprob: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """The fields, and each row's error or "".

        Arguments:
            logprob: float64 [m, 6], in nats.
        """
        safe, p, invalid = relative_probabilities(logprob)
        score = (p * np.arange(len(ANSWERS))).sum(axis=1) / p.sum(axis=1)
        mass = np.exp(safe).sum(axis=1)
        values = {
            "score": np.where(invalid, np.nan, score).astype(np.float32),
            "best": safe.argmax(axis=1).astype(np.int32),
            "mass": np.where(invalid, 0.0, np.minimum(mass, 1.0)).astype(np.float32),
        }
        return values, [NO_ANSWER if bad else "" for bad in invalid.tolist()]

    def fault(self, values: Mapping[str, np.ndarray], errors: Sequence[str]) -> str:
        """An error if the judge gives almost no probability to its six answers, else ""."""
        scored = np.array([error == "" for error in errors], bool)
        unanswered = np.array([error in (NO_ANSWER, _WITHOUT_KIND) for error in errors], bool)
        mass = np.where(unanswered, 0.0, np.asarray(values["mass"], np.float64))
        mass = mass[(scored | unanswered) & np.isfinite(mass)]
        if not len(mass) or mass.mean() >= NO_MASS:
            return ""
        return (
            f"the judge puts {percent_below(mass.mean(), 2)} of its probability on the answers 0 "
            f"to 5 (mean of {len(mass):,} rows; at least {NO_MASS:.0%} is needed), so it answers "
            "something else and its scores mean nothing. Use a model that was trained for these "
            "questions, or a larger instruct model"
        )
