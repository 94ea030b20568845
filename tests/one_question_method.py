"""A method that asks a model one question about every row, for tests of runs with a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.methods.settings import setting
from thresher.signals.query import AskBackend, Query, judge_prompt
from thresher.types import (
    Capability,
    Columns,
    Field,
    MethodContext,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Selection,
    Signal,
)

QUERY = Query("\nScore it from 0 to 5.", ("0", "1", "2", "3", "4", "5"))


@dataclass(frozen=True)
class Score:
    """The expected answer."""

    model: ModelIdentity

    kind: ClassVar[str] = "asked_score"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (Field("score", "float32", "expected answer, 0 … 5"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: AskBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        for piece in backend.ask([judge_prompt(s, "") for s in samples], [QUERY], pool):
            p = np.exp(piece.values["logprob"].astype(np.float64))
            score = (p * np.arange(6)).sum(axis=1) / p.sum(axis=1)
            yield Scored(piece.index, {"score": score.astype(np.float32)}, piece.errors)


@dataclass(frozen=True)
class Asked:
    """Highest score first. `teacher`: a further model, asked instead of the main one."""

    teacher: str | None = setting(None, "a further model", role=True)

    name: ClassVar[str] = "asked"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = "for tests"

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        model = context.roles["teacher"] if self.teacher else context.model
        assert model is not None
        return {"score": Score(model)}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        score = columns["score"]["score"]
        return Selection(np.lexsort((columns.ties, -score))[:budget], {"score": score})
