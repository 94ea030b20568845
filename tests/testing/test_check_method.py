"""The public checks accept the example of CONTRIBUTING and report each violation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from thresher.methods.explanation import Evidence, Explanation, Why, by_one_number
from thresher.methods.needs import require_model
from thresher.methods.settings import setting
from thresher.samplers import top_k
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.length import Length
from thresher.testing import check_method
from thresher.types import Columns, MethodContext, Selection, Signal


@dataclass(frozen=True)
class Hardest:
    """The example of CONTRIBUTING."""

    longest: int = setting(64, "longer answers, in tokens, are not taken")
    name: ClassVar[str] = "hardest"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = "The answers that the model expects least, if they are short."

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {"loss": AnswerLoss(require_model(context, self.name))}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        score = np.where(columns["loss"]["tokens"] <= self.longest, columns["loss"]["nll"], -np.inf)
        return Selection(top_k(score, budget, columns.ties), {"nll": columns["loss"]["nll"]})


@pytest.mark.parametrize("settings", [{}, {"longest": "3"}, {"longest": "0"}])
def test_contributing_example_passes(settings: dict[str, str]) -> None:
    check_method(Hardest, settings, nested=True)


@dataclass(frozen=True)
class _Base(Hardest):
    summary: ClassVar[str] = "A broken one."


@dataclass(frozen=True)
class Twice(_Base):
    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        return Selection(np.zeros(min(budget, len(columns)), np.int64), {})


@dataclass(frozen=True)
class OneTooMany(_Base):
    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        return Selection(np.arange(min(budget + 1, len(columns))), {})


@dataclass(frozen=True)
class InFileOrder(_Base):
    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        return Selection(np.arange(min(budget, len(columns))), {})


@dataclass(frozen=True)
class ByHashSeed(_Base):
    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        order = np.argsort([hash(text) for text in map(str, columns.digest.tolist())])
        return Selection(order[:budget].astype(np.int64), {})


@dataclass(frozen=True)
class Changes(_Base):
    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        values: Any = columns["loss"]["nll"]
        values += 1
        return super().select(columns, budget, target)


@dataclass(frozen=True)
class ShortReason(_Base):
    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        rows = super().select(columns, budget, target).rows
        return Selection(rows, {"nll": columns["loss"]["nll"][rows]})


@dataclass(frozen=True)
class ReadsMore(_Base):
    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {"length": Length("words")}


@dataclass(frozen=True)
class WithoutHelp(_Base):
    more: int = 3


@dataclass(frozen=True)
class WithoutRequireModel(_Base):
    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {"loss": AnswerLoss(context.model)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class NotNested(_Base):
    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        order = np.argsort(columns.ties if budget % 2 else ~columns.ties)
        return Selection(order[:budget].astype(np.int64), {})


@dataclass(frozen=True)
class Explained(Hardest):
    name: ClassVar[str] = "explained"

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        return Explanation(
            by_one_number(evidence, "nll", "loss", "nats per token", "the hardest are kept")
        )


@dataclass(frozen=True)
class ExplainsTooMuch(_Base):
    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        return Explanation(drawn=frozenset({"score"}))


@dataclass(frozen=True)
class NeedsItsReasons(_Base):
    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        loss = evidence.reasons["nll"]
        return Explanation(lambda i: Why("a loss", f"loss {loss[i]:.2f}"))


@dataclass
class NotFrozen:
    name: ClassVar[str] = "not_frozen"


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (Twice, "twice"),
        (OneTooMany, "for a budget of"),
        (InFileOrder, "another order of the rows"),
        (ByHashSeed, "another hash seed"),
        (Changes, "must not change its columns"),
        (ShortReason, "one value per row"),
        (ReadsMore, "no signal names: 'loss'"),
        (WithoutHelp, "'more' has no help"),
        (WithoutRequireModel, "require_model"),
        (NotNested, "must contain"),
        (ExplainsTooMuch, "does not return: score"),
        (NeedsItsReasons, "must work without reason 'nll'"),
        (NotFrozen, "frozen dataclass"),
    ],
)
def test_violations_are_reported(broken: type, text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        check_method(broken, nested=True)


def test_method_with_explain_passes() -> None:
    check_method(Explained, other_process=False)
