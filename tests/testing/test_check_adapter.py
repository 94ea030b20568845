"""`check_adapter` passes the example, and fails adapters with one fault each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from examples.tiny_adapter import END, TinyAdapter, write_model

from thresher.backends.adapted import Encoded
from thresher.testing import check_adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "captioner"
    write_model(made)
    return made


def test_the_example_conforms(folder: Path) -> None:
    check_adapter("examples.tiny_adapter:TinyAdapter", folder)


def test_the_models_own_losses_are_compared(folder: Path) -> None:
    adapter = TinyAdapter(folder, "cpu", torch.float32)
    row = adapter.encode([type("M", (), {"role": "user", "parts": ("Is ice cold?",)})], [], True)
    ids = [*row.ids, *b"Yes."]
    with torch.no_grad():
        logprob = adapter.model(torch.tensor(ids), row.inputs["patches"]).log_softmax(-1)
    nats = [-float(logprob[len(row.ids) + k - 1, t]) for k, t in enumerate(b"Yes.")]
    check_adapter(TinyAdapter, folder, reference={"Yes.": nats}, generate=False)
    wrong = [nats[0], nats[1] + 0.01, *nats[2:]]
    with pytest.raises(AssertionError, match=r"token 1 of 'Yes\.' and the reference"):
        check_adapter(TinyAdapter, folder, reference={"Yes.": wrong}, generate=False)


class EndInside(TinyAdapter):
    def encode(self, messages: Any, images: Any, prompt: bool) -> Encoded:
        row = super().encode(messages, images, prompt)
        return replace(row, answers=[(a, b + 1) for a, b in row.answers])


class StartsLate(TinyAdapter):
    def encode(self, messages: Any, images: Any, prompt: bool) -> Encoded:
        row = super().encode(messages, images, prompt)
        return replace(row, answers=[(a + 1, b) for a, b in row.answers])


class OtherPrompt(TinyAdapter):
    def encode(self, messages: Any, images: Any, prompt: bool) -> Encoded:
        row = super().encode(messages, images, prompt)
        return row.extended([32]) if prompt else row


class Blind(TinyAdapter):
    def encode(self, messages: Any, images: Any, prompt: bool) -> Encoded:
        row = super().encode(messages, images, prompt)
        return replace(row, inputs={"patches": row.inputs["patches"] * 0})


class LooksAhead(TinyAdapter):
    def logits(self, row: Encoded) -> torch.Tensor:
        return super().logits(row) + len(row.ids)


class OneShort(TinyAdapter):
    def logits(self, row: Encoded) -> torch.Tensor:
        return super().logits(row)[1:]


class Samples(TinyAdapter):
    def generate(self, row: Encoded, max_new_tokens: int) -> list[int]:
        return [END]


class OneAnswer(TinyAdapter):
    def encode(self, messages: Any, images: Any, prompt: bool) -> Encoded:
        row = super().encode(messages, images, prompt)
        return replace(row, answers=row.answers[-1:])


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (EndInside, "contains the stop token 256"),
        (StartsLate, "decode to 'ed and blue.'"),
        (OtherPrompt, "the prompt before it"),
        (Blind, "another image gives the same losses"),
        (LooksAhead, "later tokens change logits"),
        (OneShort, "logits have the shape"),
        (Samples, "generate gives the tokens"),
        (OneAnswer, "1 answers for 2 assistant messages"),
    ],
)
def test_a_fault_is_found(faulty: type[TinyAdapter], message: str, folder: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check_adapter(faulty, folder)
