"""A method whose signals are questions that a judge answers in one shared pass."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from thresher.backends import ModelHandle
from thresher.methods.settings import setting
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


def identity(name: str) -> ModelIdentity:
    return ModelIdentity(f"fake:{name}", "fake", "float32", "pil")


@dataclass
class Judge:
    """A backend that writes down which questions it was asked in each pass, and of how many
    rows."""

    name: str = "judge"
    fails: str = ""
    passes: list[tuple[tuple[str, ...], int]] = field(default_factory=list)

    @property
    def handle(self) -> ModelHandle:
        return ModelHandle(self.name, identity(self.name), lambda: self)


@dataclass(frozen=True)
class Question:
    model: ModelIdentity
    text: str

    kind: ClassVar[str] = "question"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field("score", "float32", "0 to 1"),
        Field("word", "str", "any"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def batch_key(self) -> Hashable:
        return ("question", self.model)

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        for pieces in self.batch_rows([self], samples, inputs, backend, pool):
            yield pieces[0]

    def batch_rows(
        self,
        signals: Sequence[Question],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: Judge,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        results, rows = tuple(s.text for s in signals), len(samples)
        if backend.passes and backend.passes[-1][0] == results:  # a further block of the same pass
            rows += backend.passes.pop()[1]
        backend.passes.append((results, rows))
        for start in range(0, len(samples), 7):
            part = samples[start : start + 7]
            index = np.arange(start, start + len(part))
            out = []
            for s in signals:
                score = [answer(s.text, sample) for sample in part]
                errors = [
                    "no answer" if s.text == backend.fails and a > 0.98 else "" for a in score
                ]
                words = np.array([f"{s.text}!" for _ in part], object)
                out.append(
                    Scored(index, {"score": np.array(score, np.float32), "word": words}, errors)
                )
            yield out


def answer(text: str, sample: Sample) -> float:
    return hashlib.sha256(text.encode() + sample.digest).digest()[0] / 256


@dataclass(frozen=True)
class Panel:
    """Selects the rows with the largest sum. The second role, if named, answers "style"."""

    questions: str = "a,b,c"
    second: str | None = setting(None, "a further model", role=True)

    name: ClassVar[str] = "panel"
    paper: ClassVar[str] = "none"
    summary: ClassVar[str] = "a test"

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        out: dict[str, Signal] = {}
        for text in filter(None, self.questions.split(",")):
            assert context.model is not None
            out[text] = Question(context.model, text)
        if self.second:
            out["style"] = Question(context.roles["second"], "style")
        return out

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        reason = {name: columns[name]["score"] for name in columns.values}
        total = sum(reason.values(), np.zeros(len(columns), np.float32))
        return Selection(np.argsort(-total, kind="stable")[:budget], reason)
