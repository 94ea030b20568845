"""Targets of the training loss: the answer and end tokens of every turn, nothing else, for every
architecture; and the loss itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.backends.hf.opened_backends import opened
from tests.model_families import families
from tests.tiny_models import ARCHITECTURES
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.training_loss import AnswerLossFn, EndOfTurn
from thresher.pools import Pool

ENDS = {
    "qwen2_5_vl": "<|im_end|>",
    "qwen3_vl": "<|im_end|>",
    "llava": "</s>",  # its template writes no end
    "llava_onevision": "<|im_end|>",
    "mllama": "<|eot_id|>",
    "smolvlm": "<end_of_utterance>",
    "internvl": "<|im_end|>",
}


@pytest.fixture(params=families(ARCHITECTURES))
def named(request: pytest.FixtureRequest) -> tuple[str, HFBackend]:
    """Shared between tests: it is not changed."""
    return request.param, opened(request.param)


def test_targets_are_answer_and_end_of_each_turn(
    named: tuple[str, HFBackend], training_pool: Pool
) -> None:
    name, backend = named
    ends = EndOfTurn(backend.encoder)
    tokenizer = backend.encoder.tokenizer
    assert ends.token is not None and tokenizer.convert_ids_to_tokens(ends.token) == ENDS[name]
    assert ends.in_template == (name != "llava")
    samples = training_pool.samples(range(10))
    block = backend.prepare([conversation(s) for s in samples], range(10), training_pool, False)
    assert not block.errors
    for i, row in zip(block.index, block.rows, strict=True):
        want = ends.targets(row)
        answers = [t.text for t in samples[i].turns if t.role == "assistant"]
        text = tokenizer.decode(want.token.tolist(), skip_special_tokens=False)
        results = [part.strip() for part in text.split(ENDS[name])]
        assert results == [*answers, ""], f"{results} for {answers}"
        assert (np.diff(want.position) > 0).all()
        inside = want.position[want.position + 1 < len(row.ids)]
        same = row.ids[inside + 1] == want.token[: len(inside)]
        allowed = len(answers) if name == "llava" else 0
        assert (~same).sum() <= allowed, (
            "the targets are the text itself, but for an end not written there"
        )


def test_the_loss_is_the_scored_loss_plus_the_ends(
    named: tuple[str, HFBackend], training_pool: Pool
) -> None:
    """Rows of different lengths, with 0, 1 and 2 images in one batch, against scoring row by
    row."""
    _, backend = named
    rows = range(10)
    samples = training_pool.samples(rows)
    nll, tokens = np.zeros(10), np.zeros(10)
    for scored in backend.answer_loss(samples, training_pool):
        nll[scored.index], tokens[scored.index] = scored.values["nll"], scored.values["tokens"]
    block = backend.prepare([conversation(s) for s in samples], rows, training_pool, False)
    teacher = AnswerLossFn(backend)
    with torch.no_grad():
        answers_only = [teacher.ends.targets(r) for r in block.rows]
        for row, want in zip(block.rows, answers_only, strict=True):
            keep = np.isin(want.position, row.answer_positions - 1) & (
                want.token == row.ids[np.minimum(want.position + 1, len(row.ids) - 1)]
            )
            object.__setattr__(want, "token", want.token[keep])
            object.__setattr__(want, "position", want.position[keep])
        got = teacher.loss(backend.forward.model, block.rows, answers_only, block.images)
        whole = teacher.loss(
            backend.forward.model,
            block.rows,
            [teacher.ends.targets(r) for r in block.rows],
            block.images,
        )
    assert float(got) == pytest.approx((nll * tokens).sum(), rel=2e-5)
    assert float(whole) > float(got)
