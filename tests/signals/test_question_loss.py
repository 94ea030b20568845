"""The loss of a row's question: how a row is turned around, and against transformers' own pass."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.hf.opened_backends import opened
from tests.backends.hf.random_rows import Images, ask, collect
from tests.backends.hf.slow_reference import images_of, messages_of, reference_rows
from tests.tiny_models import ARCHITECTURES, BOTH_WAYS, load
from thresher.signals.question_loss import BLIND, GIVEN, QuestionLoss, turn_around
from thresher.signals.word_loss import weighted_mean
from thresher.types import ImageRef, ModelIdentity, Sample, Turn

MODEL = ModelIdentity("sha256:0", "tiny", "float32", "pil")


def sample(*texts: str, images: int = 1, system: str = "") -> Sample:
    """User and assistant in turn."""
    turns = [Turn("system", system)] if system else []
    turns += [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    return Sample("7", tuple(turns), tuple(ImageRef(path=str(i), size=1) for i in range(images)))


def turned(row: Sample, prompt: str) -> list[str]:
    made = turn_around(row, prompt)
    assert isinstance(made, Sample)
    assert [t.role for t in made.turns] == ["user", "assistant"] * (len(made.turns) // 2)
    assert sum(t.text.count("<image>") for t in made.turns) == len(made.images)
    assert made.images == row.images[: len(made.images)]
    return [t.text for t in made.turns]


def test_rows_turned_around() -> None:
    one = sample("<image>\nWhat is it?", "A cat.", system="Be brief.")
    assert turned(one, "Ask.") == ["<image>\nAsk.", "What is it?"]
    assert turned(one, "Ask for {answer}") == ["<image>\nAsk for A cat.", "What is it?"]
    assert turned(sample("Is <image> it?", "{no}"), "{answer}!") == ["<image>\n{no}!", "Is it?"]
    two = sample("<image>\nWhat?", "Cat", "And\n<image> here?", "Dog", images=2)
    assert turned(two, "Q {answer}") == ["<image>\nQ Cat", "What?", "<image>\nQ Dog", "And here?"]


def test_exchanges_without_a_question_or_an_answer_are_left_out() -> None:
    silent = sample("<image>", "A cat.", "Where is it?", " On the mat. ", "Why?", " ", "And?")
    assert turned(silent, "Q {answer}") == ["<image>\nQ On the mat.", "Where is it?"]
    assert turn_around(sample("<image>", "A cat."), "Q") is None
    drawn = turn_around(sample("Draw a cat.", "<image>"), "Q")
    assert isinstance(drawn, str) and "inside an answer" in drawn


@pytest.mark.parametrize("prompt", [BLIND, GIVEN])
@pytest.mark.parametrize("name", [*ARCHITECTURES, BOTH_WAYS])
def test_losses_are_those_of_the_models_probabilities(name: str, prompt: str) -> None:
    tiny = load(name)
    backend = opened(name)
    rows = [
        ask("what is on the mat", "three red cats", "1"),
        ask("what is there", "cats"),
        sample("<image>\nwhat colour", "blue", "how many are there on it", "3"),
        sample("<image>", "a mat"),
        sample("what", "<image>"),
    ]
    pieces = QuestionLoss(MODEL, prompt).rows(rows, None, backend, Images())
    found, errors = collect(pieces, len(rows))
    assert list(errors) == [4]
    loss = weighted_mean(found, 1.0)
    assert np.isnan(loss).tolist() == [False, True, False, True, True]
    for i in (0, 2):
        said = [t.text.replace("<image>\n", "") for t in rows[i].turns]
        turns = []
        for k in range(0, len(said), 2):
            request = prompt.replace("{answer}", said[k + 1])
            turns += [
                Turn("user", ("" if k else "<image>\n") + request),
                Turn("assistant", said[k]),
            ]
        by_hand = Sample("", tuple(turns), rows[i].images)
        images = images_of(by_hand, Images().load_image)
        known = reference_rows(tiny.processor, tiny.model, messages_of(by_hand), images)
        assert loss[i] == pytest.approx(known["nll"], abs=1e-4)


def test_the_prompts() -> None:
    assert "{answer}" in GIVEN and "{" not in BLIND
    assert QuestionLoss(MODEL, BLIND) != QuestionLoss(MODEL, GIVEN)
