"""Gemma 3, whose image tokens attend bidirectionally, compared with the slow reference."""

from __future__ import annotations

import pytest

from tests.backends.hf.opened_backends import opened
from tests.backends.hf.random_rows import Images, ask, collect
from tests.backends.hf.slow_reference import messages_of, reference_one_shot, reference_rows
from tests.tiny_models import BOTH_WAYS, Loaded, load
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.token_types import TokenTypeForward
from thresher.types import Sample, Turn

ROWS = [
    ask("What is it?", "A cat, red.", "1"),
    ask("What is two and two?", "Four."),
    ask("Which is larger?", "The second one.", "2", "3"),
    Sample(
        "0",
        (*ask("A cat?", "Yes.", "4").turns, Turn("user", "Sure?"), Turn("assistant", "I am.")),
        ask("", "", "4").images,
    ),
]


@pytest.fixture(scope="module")
def gemma() -> Loaded:
    return load(BOTH_WAYS)


@pytest.fixture(scope="module")
def backend(gemma: Loaded) -> HFBackend:
    return opened(gemma.name)


def test_losses_match_reference(gemma: Loaded, backend: HFBackend) -> None:
    assert isinstance(backend.forward, TokenTypeForward) and not backend.reuses_prefix
    image_source = Images()
    values, errors = collect(backend.answer_loss(ROWS * 3, image_source), 12)
    one, more_errors = collect(backend.one_shot(ROWS, [ROWS[0]] * 4, image_source), 4)
    assert not errors and not more_errors
    for i, row in enumerate(ROWS):
        images = [image_source.load_image(ref) for ref in row.images]
        want = reference_rows(gemma.processor, gemma.model, messages_of(row), images)
        assert values["tokens"][i] == want["tokens"]
        assert values["nll"][i] == pytest.approx(want["nll"], abs=1e-4)
        displayed = [image_source.load_image(ref) for ref in ROWS[0].images]
        after = reference_one_shot(
            gemma.processor, gemma.model, messages_of(ROWS[0]), displayed, messages_of(row), images
        )
        assert one["nll"][i] == pytest.approx(after["nll"], abs=1e-4)


def test_image_tokens_attend_to_each_other(
    gemma: Loaded, backend: HFBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    want, _ = collect(backend.answer_loss(ROWS, Images()), 4)
    monkeypatch.setattr(backend.forward, "soft_token_id", -1)
    causal, _ = collect(backend.answer_loss(ROWS, Images()), 4)
    assert abs(want["nll"][0] - causal["nll"][0]) > 1e-4 and want["nll"][1] == pytest.approx(
        causal["nll"][1], abs=1e-6
    )


def test_generated_text_does_not_depend_on_the_batch(backend: HFBackend) -> None:
    rows = ROWS[:3] * 2
    batched, errors = collect(backend.generate(rows, Images(), 6), 6)
    assert not errors
    for i, row in enumerate(rows):
        single, _ = collect(backend.generate([row], Images(), 6), 1)
        assert single["text"][0] == batched["text"][i]
