"""Small pools, signals and methods for tests of the store, selections, output and plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from thresher.backends import ModelHandle
from thresher.backends.fake import IDENTITY, FakeBackend
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


def record(i: int, image: str | None = None) -> dict[str, Any]:
    """Row `i`: a text-only question, or one about an image."""
    question = f"What is {i} plus {i}?"
    out: dict[str, Any] = {"id": f"r{i}"}
    if image is not None:
        out["image"] = image
        question = "<image>\n" + question
    out["conversations"] = [
        {"from": "human", "value": question},
        {"from": "gpt", "value": f"It is {2 * i}. " * (i % 7 + 1)},
    ]
    out["data_source"] = f"source{i % 3}"
    return out


def write_pool(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(r) for r in records) + "\n]\n", encoding="utf-8")
    return path


@dataclass
class Model:
    """A handle on a fake backend that counts how often it was opened."""

    fails: Callable[[Sample], str] | None = None
    backend: FakeBackend | None = None
    opened: int = 0
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def handle(self) -> ModelHandle:
        return ModelHandle(name="fake", identity=IDENTITY, open=self._open)

    def _open(self) -> FakeBackend:
        self.opened += 1
        self.backend = FakeBackend(**({"fails": self.fails} if self.fails else {}), **self.kwargs)
        return self.backend

    @property
    def scored(self) -> int:
        return self.backend.scored if self.backend else 0


@dataclass(frozen=True)
class Loss:
    """A row signal without inputs."""

    model: ModelIdentity

    kind: ClassVar[str] = "loss"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = (
        Field("nll", "float32", "nats"),
        Field("tokens", "int32", "count"),
        Field("greedy_match", "bool", "argmax"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        assert inputs is None
        return backend.answer_loss(samples, pool)


@dataclass(frozen=True)
class Partner:
    """A pool signal: each row's partner is the row with the smallest (or largest) loss of the
    active ones."""

    loss: Loss
    largest: bool = False

    kind: ClassVar[str] = "partner"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("digest", "S32", "partner"),
        Field("rank", "int32", "0 = smallest loss"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"loss": self.loss}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        nll = inputs["loss"]["nll"]
        order = np.argsort(nll, kind="stable")
        rank = np.empty(len(nll), np.int32)
        rank[order] = np.arange(len(nll))
        best = inputs.digest[order[-1 if self.largest else 0]]
        return {"digest": np.full(len(nll), best, "S32"), "rank": rank}


@dataclass(frozen=True)
class Pair:
    """A row signal with an input that is part of the key, not of the fingerprint."""

    model: ModelIdentity
    partner: Partner

    kind: ClassVar[str] = "pair"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.LOGPROBS
    not_identity: ClassVar[tuple[str, ...]] = ("partner",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = (("partner", "digest"),)
    fields: ClassVar[tuple[Field, ...]] = (Field("nll", "float32", "nats"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {"partner": self.partner}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        assert inputs is not None and len(inputs) == len(samples)
        assert all(
            d == s.digest.rstrip(b"\0")
            for d, s in zip(inputs.digest.tolist(), samples, strict=True)
        )
        displayed = [
            pool.by_digest(d.ljust(32, b"\0")) for d in inputs["partner"]["digest"].tolist()
        ]
        return backend.one_shot(samples, displayed, pool)


@dataclass(frozen=True)
class Words:
    """A fact signal."""

    kind: ClassVar[str] = "words"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (Field("words", "int32", "words of the answers"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"words": facts["answer_words"]}


@dataclass(frozen=True)
class HighestLoss:
    """Largest loss first."""

    name: ClassVar[str] = "highest_loss"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {"loss": Loss(context.model or IDENTITY)}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        nll = columns["loss"]["nll"]
        return Selection(np.lexsort((columns.ties, -nll))[:budget], {"nll": nll})


@dataclass(frozen=True)
class Nested:
    """Loss, two partners made of it, and a pair loss with each: the shape of CLIPPER."""

    share: float = 0.5

    name: ClassVar[str] = "nested"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        model = context.model or IDENTITY
        loss = Loss(model)
        return {
            "with_small": Pair(model, Partner(loss)),
            "with_large": Pair(model, Partner(loss, largest=True)),
            "loss": loss,
            "words": Words(),
        }

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        effect = columns["with_small"]["nll"] - columns["with_large"]["nll"]
        rows = np.lexsort(
            (
                columns.ties,
                effect
                + (columns.ties >> np.uint64(40)).astype(np.float32) * np.float32(2**-24) * 1e-3,
            )
        )[:budget]
        group = np.where(columns["loss"]["greedy_match"], "P", "W")
        return Selection(
            rows, {"effect": effect, "group": group, "words": columns["words"]["words"]}
        )


@dataclass(frozen=True)
class FirstTies:
    """Needs nothing; a seeded draw."""

    name: ClassVar[str] = "first_ties"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        return Selection(np.argsort(columns.ties, kind="stable")[:budget], {})
