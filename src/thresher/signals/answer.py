"""The model's own greedy answer in place of a row's last answer.

The prompt is the conversation before that answer (earlier answers as in the file) with the
template's generation prompt. The file's own last answer is not used.
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
    Turn,
)

UNUSED_ANSWER = Turn("assistant", "-")
"""Last turn of a prompt: an answer is generated in its place, and its text is not used."""


class GenerateBackend(Protocol):
    """The part of a backend that this signal uses."""

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """Greedy decoding of an answer in place of each row's last one.

        Arguments:
            samples: n rows.
            pool: where images are loaded from.
            max_new_tokens: maximum number of generated tokens.

        Yields `text` (str), `tokens` int32 (number of generated tokens) and `finished` bool
        (whether the model ended the text).
        """


def text_prompt(sample: Sample, text: str) -> Sample:
    """A prompt of text alone about a row, whose turns and images are not part of it.

    Arguments:
        sample: the row.
        text: the whole prompt.
    """
    return Sample(sample.id, (Turn("user", text), UNUSED_ANSWER), (), sample.source)


@dataclass(frozen=True)
class Answer:
    """Greedy decoding, one prompt per row."""

    model: ModelIdentity
    max_new_tokens: int = 32
    """Most tokens; longer answers are cut."""

    kind: ClassVar[str] = "answer"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.GENERATE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "str", "the model's answer, stripped; may be empty"),
        Field("tokens", "int32", "tokens of the answer without the stop token, >= 0"),
        Field(
            "finished",
            "bool",
            "the model stopped by itself; false: cut at max_new_tokens or at the context",
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
