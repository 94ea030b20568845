"""A trained model gives the answers that it was trained on, here and in plain transformers: also
numbers, before which a template may leave a space as a separate token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as tf

from tests.backends.hf.random_rows import collect
from tests.backends.hf.slow_reference import messages_of
from tests.tiny_models import build
from tests.training.colour_pools import pool_of
from thresher.backends import resolve
from thresher.backends.hf.processor import load_processor
from thresher.backends.hf.traits import stop_tokens
from thresher.training import Recipe, fit

ANSWERS = (
    "12",
    "7",
    "305",
    "Red",
    "A blue dog.",
    "Yes, two.",
    "No",
    "4 of 9",
    "It is so.",
    "green",
)


@pytest.mark.parametrize("name", ["smolvlm", "gemma3"])
def test_the_answers_are_generated(name: str, tmp_path: Path) -> None:
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"What is {q}?"},
                {"from": "gpt", "value": a},
            ]
        }
        for q, a in zip("abcdefghij", ANSWERS, strict=True)
    ]
    pool = pool_of(tmp_path / "pool", rows)
    recipe = Recipe(steps=140, batch=10, lora=False, learning_rate=2e-3)
    fit(str(build(name)), pool, None, recipe, tmp_path / "model", device="cpu")
    samples = list(pool.samples(range(len(ANSWERS))))
    backend = resolve(str(tmp_path / "model"), device="cpu").open()
    said, errors = collect(backend.generate(samples, pool, 12), len(ANSWERS))
    assert not errors and said["finished"].all()
    assert said["text"].tolist() == list(ANSWERS)
    match, _ = collect(backend.answer_loss(samples, pool), len(ANSWERS))
    assert match["greedy_match"].all()

    processor, _ = load_processor(tmp_path / "model")
    model = tf.AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    for sample in samples[::3]:
        inputs = processor.apply_chat_template(
            messages_of(sample)[:-1],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
        )
        with torch.no_grad():
            out = model.generate(
                **inputs,
                max_new_tokens=12,
                do_sample=False,
                eos_token_id=sorted(stop_tokens(backend.forward.model, backend.encoder)),
            )
        new = out[0, inputs["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert text == sample.turns[-1].text
