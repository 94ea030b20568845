"""What a model says by itself: its greedy answer in place of a row's last answer.

The prompt is the conversation up to that answer (earlier answers stand as in the file) with the
template's invitation to answer. What the file's own answer is does not matter here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from thresher.types import (
    Capability,
    Columns,
    Field,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
)


class GenerateBackend(Protocol):
    """The part of a backend that this signal uses."""

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]: ...


@dataclass(frozen=True)
class Answer:
    """Greedy decoding, one prompt a row."""

    model: ModelIdentity
    max_new_tokens: int = 32
    """Where an answer is cut that does not end by itself."""

    kind: ClassVar[str] = "answer"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the model's answer, white space at its ends removed; may be empty"),
        Field("tokens", "int32", "tokens of the answer without the one that ended it, >= 0"),
        Field(
            "finished",
            "bool",
            "the model ended the answer itself; false: it was cut at max_new_tokens or at the "
            "context",
        ),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GenerateBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        return backend.generate(samples, pool, self.max_new_tokens)
