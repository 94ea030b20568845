"""In training the last answer follows the generation prompt, also where the template writes a
finished turn otherwise."""

from __future__ import annotations

import pytest

from tests.backends.hf.opened_backends import opened
from tests.backends.hf.random_rows import Images, ask, some_rows
from tests.model_families import families
from tests.tiny_models import ARCHITECTURES, BOTH_WAYS
from thresher.backends.hf.conversation import conversation, prompt_of
from thresher.backends.hf.encode import PromptEncoder
from thresher.backends.hf.training_encode import TrainingEncoder
from thresher.types import Sample, Turn

NAME = "llava_onevision"
ROW = ask("How many?", "12 of them.", "1")
TWO_TURNS = Sample("0", (*ROW.turns, Turn("user", "Sure?"), Turn("assistant", "Yes.")), ROW.images)


@pytest.mark.parametrize(
    "name", families([n for n in (*ARCHITECTURES, BOTH_WAYS) if n != NAME], ("llava", "mllama"))
)
def test_most_templates_are_left_as_they_are(name: str) -> None:
    encoder = opened(name).encoder
    training = TrainingEncoder(encoder.processor)
    assert not training.rewrites
    conversations = [conversation(row) for row in some_rows(8, seed=2)]
    assert training.encode(conversations) == encoder.encode(conversations)


@pytest.mark.parametrize("row", [ROW, TWO_TURNS, ask("Is ice cold?", "Yes.")])
def test_the_answer_stands_behind_the_prompt(row: Sample) -> None:
    backend = opened(NAME)
    encoder = TrainingEncoder(backend.encoder.processor)
    assert encoder.rewrites
    (got,) = encoder.encode([conversation(row)])
    (prompt,) = PromptEncoder(backend.encoder.processor).encode([prompt_of(row)])
    assert not isinstance(got, str) and not isinstance(prompt, str)
    n = len(prompt.ids)
    assert got.ids[:n] == prompt.ids
    last = [p for p in got.answer_positions if p >= n]
    decode = backend.encoder.tokenizer.decode
    assert last[0] == n and decode([got.ids[p] for p in last]) == row.turns[-1].text
    assert decode(got.ids[last[-1] + 1 :]) == "<|im_end|>"
    earlier = [p for p in got.answer_positions if p < n]
    answers = [t.text for t in row.turns[:-1] if t.role == "assistant"]
    assert decode([got.ids[p] for p in earlier]) == "".join(answers)


def test_rows_with_images_and_a_blank_answer_are_prepared() -> None:
    backend = opened(NAME)
    encoder = TrainingEncoder(backend.encoder.processor)
    rows = [ROW, ask("Which?", " ", "1", "2"), TWO_TURNS]
    block = backend.prepare(
        [conversation(r) for r in rows], range(len(rows)), Images(), False, encoder
    )
    assert 0 in block.index and 2 in block.index
