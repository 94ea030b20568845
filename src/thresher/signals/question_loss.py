"""The loss of a row's question: how likely a model would ask it about the image, with or without
the answer being given (DICS, arXiv:2608.30209).

Question and answer are swapped: the prompt asks for a question, and the row's own question is the
expected answer. An answer that belongs to its question makes the question more likely. DICS does
not state its two prompts; these are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from thresher.signals.answer_loss import score_some
from thresher.signals.prompts import read
from thresher.signals.query import text_without_images
from thresher.signals.reading import ReadingBackend
from thresher.signals.template import render_template
from thresher.signals.word_loss import WORD_FIELDS, WordLoss
from thresher.types import (
    IMAGE_PLACEHOLDER,
    AnyModel,
    Capability,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Signal,
    Turn,
    model_inputs,
)

BLIND = read("dics_question")
GIVEN = read("dics_question_of_answer")


@dataclass(frozen=True)
class QuestionLoss:
    """One pass over a row with an image or video; rows without one are not asked."""

    model: AnyModel
    prompt: str
    """Asks for a question; with `{answer}`, for the one that has this answer."""

    kind: ClassVar[str] = "question_loss"
    version: ClassVar[int] = 2  # 2: from the end of the generation prompt
    needs: ClassVar[Capability] = Capability.LOGPROBS
    fields: ClassVar[tuple[Field, ...]] = WORD_FIELDS

    def inputs(self) -> Mapping[str, Signal]:
        return model_inputs(self.model)

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: ReadingBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        turned = {i: turn_around(s, self.prompt) for i, s in enumerate(samples) if s.images}
        made = {i: row for i, row in turned.items() if row is not None}
        words = WordLoss(self.model)
        yield from score_some(
            len(samples), made, self.fields, lambda rows: words.rows(rows, None, backend, pool)
        )


def turn_around(sample: Sample, prompt: str) -> Sample | str | None:
    """The row as a conversation in which the model asks: each exchange becomes the prompt, with the
    exchange's images, and the question as the answer to it.

    Arguments:
        sample: the row.
        prompt: `{answer}` in it is replaced by the exchange's answer.

    Exchanges without a question or without an answer are left out, but not their images; so are
    system turns. None: no exchange is left. A text: why the row cannot be turned around.
    """
    turns: list[Turn] = []
    images, question = 0, ""
    for turn in sample.turns:
        if turn.role != "assistant":
            images += turn.text.count(IMAGE_PLACEHOLDER)
        if turn.role == "user":
            text = text_without_images(turn.text).strip()
            question = f"{question}\n{text}" if question and text else question or text
        elif turn.role == "assistant":
            if IMAGE_PLACEHOLDER in turn.text:
                return (
                    "an image or video is inside an answer: the question cannot be asked without it"
                )
            if question and turn.text.strip():
                asked = render_template(prompt, {"answer": turn.text.strip()})
                shown = f"{IMAGE_PLACEHOLDER}\n" * images
                turns += [Turn("user", shown + asked), Turn("assistant", question)]
                images = 0
            question = ""
    if not turns:
        return None
    count = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in turns)
    media = sample.images[:count]
    return Sample(sample.id, tuple(turns), media, sample.source, sample.problem, sample.media)
