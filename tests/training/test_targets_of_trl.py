"""The trained tokens, compared with those of TRL's collator for prompts and completions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backends.hf.opened_backends import opened
from tests.backends.hf.random_rows import Images, ask
from tests.tiny_models import ARCHITECTURES, BOTH_WAYS, load
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.training_encode import TrainingEncoder
from thresher.backends.hf.training_loss import EndOfTurn
from thresher.types import Sample

# Llama-3.2-Vision's processor takes no completion without an image
NAMES = tuple(n for n in (*ARCHITECTURES, BOTH_WAYS) if n != "mllama")
# What TRL learns beyond our targets: before the answer, and after it. Every template but LLaVA's
# ends a turn with a control token, which both learn. LLaVA-OneVision's writes a finished turn
# otherwise than its generation prompt, and TRL learns what differs.
MORE = dict.fromkeys(NAMES, ("", "\n")) | {
    "llava": ("", " "),
    "llava_onevision": (" \n", ""),
}
ANSWERS = ("12", "A red cat.", "7 of 30", "Yes, two.\nIt is so.")


def learned_by_trl(processor: Any, row: Sample) -> str:
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    collator = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    question, answer = (turn.text.replace("<image>\n", "") for turn in row.turns)
    example = {
        "images": [Images().load_image(ref) for ref in row.images],
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }
    labels = collator([example])["labels"][0]
    text: str = processor.tokenizer.decode(labels[labels >= 0], skip_special_tokens=False)
    return text


def learned(backend: HFBackend, row: Sample) -> str:
    encoder = TrainingEncoder(backend.encoder.processor)
    block = backend.prepare([conversation(row)], range(1), Images(), False, encoder)
    targets = EndOfTurn(backend.encoder).targets(block.rows[0])
    text: str = backend.encoder.tokenizer.decode(targets.token, skip_special_tokens=False)
    return text


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned_beside_trl(name: str) -> None:
    backend, (before, after) = opened(name), MORE[name]
    end = "</s>" if name == "llava" else ""  # learned, although the template does not write it
    for answer in ANSWERS:
        row = ask("How many?", answer, "1")
        ours, theirs = learned(backend, row), learned_by_trl(load(name).processor, row)
        assert theirs == before + ours.removesuffix(end) + after
