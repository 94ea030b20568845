"""Trains a tiny model on twelve answers and asks for them, here and in plain transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    *("12", "7", "305", "4 of 9"),  # before a number, a template may leave a space as a token
    *("Red", "No", "green", "Orange"),
    *("A blue dog.", "Yes, two.", "It is so.", "There are three of them."),
)
STEPS = 140
LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class Learned:
    """What a trained model says, in the order of `ANSWERS`.

    here: by `generate`. unfinished: how many of these texts the model did not end.
    matches: whether teacher-forced scoring finds that the model would say exactly the answer.
    plain: by `generate` of transformers, with the processor of the trained folder.
    """

    here: list[str]
    unfinished: int
    matches: list[bool]
    plain: list[str]


def learn(
    name: str,
    folder: Path,
    *,
    steps: int = STEPS,
    rate: float = LEARNING_RATE,
    device: str = "cpu",
) -> Learned:
    """Train the tiny model `name` in full on one row per answer.

    folder: for the pool and the trained model.
    device: of the training; plain transformers runs on the CPU.
    """
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"What is {question}?"},
                {"from": "gpt", "value": answer},
            ]
        }
        for question, answer in zip("abcdefghijkl", ANSWERS, strict=True)
    ]
    pool = pool_of(folder / "pool", rows)
    recipe = Recipe(steps=steps, batch=len(rows), lora=False, learning_rate=rate)
    fit(str(build(name)), pool, None, recipe, folder / "model", device=device)
    samples = list(pool.samples(range(len(rows))))
    backend = resolve(str(folder / "model"), device=device).open()
    said, errors = collect(backend.generate(samples, pool, 12), len(rows))
    assert not errors, errors
    scored, _ = collect(backend.answer_loss(samples, pool), len(rows))

    processor, _ = load_processor(folder / "model")
    model = tf.AutoModelForImageTextToText.from_pretrained(folder / "model").eval()
    stops = sorted(stop_tokens(backend.forward.model, backend.encoder))
    plain = []
    for sample in samples:
        inputs = processor.apply_chat_template(
            messages_of(sample)[:-1],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
        ).to(model.dtype)
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=stops)
        new = out[0, inputs["input_ids"].shape[1] :]
        plain.append(processor.tokenizer.decode(new, skip_special_tokens=True).strip())
    return Learned(
        said["text"].tolist(),
        int((~said["finished"]).sum()),
        scored["greedy_match"].tolist(),
        plain,
    )
