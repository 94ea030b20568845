"""The built-in model: loads offline with the usual classes, has a consistent chat format, and uses
demonstrations."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tools.demo_model.chat import CHAT_TEMPLATE
from tools.demo_model.curriculum import Round
from tools.demo_model.measure_model import measure
from tools.demo_model.training import IGNORED, encode, pixels
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from thresher.demo import MODEL_FOLDER

IMAGE = {"type": "image"}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


CONVERSATION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": [IMAGE, text("What colour is it?")]},
    {"role": "assistant", "content": [text("Red")]},
    {"role": "user", "content": [text("And of "), IMAGE, IMAGE, text("\nthe second?")]},
    {"role": "assistant", "content": "Blue. 😀"},
]


@pytest.fixture(scope="module")
def processor() -> LlavaProcessor:
    return LlavaProcessor.from_pretrained(MODEL_FOLDER)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, thresher.demo as d; print(d.MODEL_FOLDER.name, [m for m in "
        "('torch','transformers','PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "model []"


def test_folder_is_small_and_complete() -> None:
    files = {p.name: p.stat().st_size for p in Path(MODEL_FOLDER).iterdir()}
    needed = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
        "README.md",
    }
    assert needed <= set(files) and sum(files.values()) < 5_000_000
    assert (Path(MODEL_FOLDER) / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_rendering_keeps_the_order_of_parts(processor: LlavaProcessor) -> None:
    rendered = processor.apply_chat_template(CONVERSATION, tokenize=False)
    assert rendered == (
        "<s><|system|>You are a helpful assistant.<|end|><|user|><image>\nWhat colour is "
        "it?<|end|><|assistant|>Red<|end|>"
        "<|user|>And of <image>\n<image>\nthe second?<|end|><|assistant|>Blue. 😀<|end|>"
    )


def test_rendering_is_a_prefix_of_longer_renderings(processor: LlavaProcessor) -> None:
    whole = processor.apply_chat_template(CONVERSATION, tokenize=False)
    ids = processor.tokenizer(whole, add_special_tokens=False)["input_ids"]
    for turns in range(1, len(CONVERSATION) + 1):
        part = processor.apply_chat_template(CONVERSATION[:turns], tokenize=False)
        assert whole.startswith(part)
        part_ids = processor.tokenizer(part, add_special_tokens=False)["input_ids"]
        assert ids[: len(part_ids)] == part_ids
        if CONVERSATION[turns - 1]["role"] == "user":
            prompt = processor.apply_chat_template(
                CONVERSATION[:turns], tokenize=False, add_generation_prompt=True
            )
            assert whole.startswith(prompt) and prompt == part + "<|assistant|>"


def test_assistant_mask_covers_the_answers_and_the_end_of_turn(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    out = tokenizer.apply_chat_template(
        CONVERSATION, return_assistant_tokens_mask=True, return_dict=True
    )
    learnt = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(learnt) == "Red<|end|>Blue. 😀<|end|>"
    assert tokenizer.eos_token == "<|end|>"


def test_unknown_role_is_refused(processor: LlavaProcessor) -> None:
    with pytest.raises(Exception, match="unknown role"):
        processor.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@pytest.mark.parametrize(
    "value", ["Größe 😀 日本語\t\n  two  spaces", "a\x00b\x7f", "1234567890", "It isn't , so .", ""]
)
def test_tokenizer_reads_any_text(tokenizer: PreTrainedTokenizerFast, value: str) -> None:
    ids = tokenizer(value, add_special_tokens=False)["input_ids"]
    assert (
        tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        == value
    )


def test_digits_are_single_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("2718") == ["2", "7", "1", "8"]


def test_training_tokens_equal_template_and_processor(processor: LlavaProcessor) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(2)]
    rounds = [
        Round("What is it?", "A cat", images[0]),
        Round("And\nthis?", "Two dogs", images[1]),
    ]
    messages = []
    for r in rounds:
        messages.append({"role": "user", "content": [IMAGE, text(r.question)]})
        messages.append({"role": "assistant", "content": [text(r.answer)]})
    rendered = processor.apply_chat_template(messages, tokenize=False)
    out = processor(text=rendered, images=[Image.fromarray(p) for p in images], return_tensors="pt")
    encoded = encode(processor.tokenizer, rounds)
    assert out["input_ids"][0].tolist() == encoded.ids
    assert torch.allclose(out["pixel_values"], pixels(images), atol=1e-5)
    learnt = [t for t in encoded.labels if t != IGNORED]
    assert processor.tokenizer.decode(learnt) == "A cat<|end|>Two dogs<|end|>"


def test_any_image_becomes_nine_tokens_and_is_answered(processor: LlavaProcessor) -> None:
    model = AutoModelForImageTextToText.from_pretrained(MODEL_FOLDER, dtype=torch.float32).eval()
    assert 1_000_000 < model.num_parameters() < 2_200_000
    assert model.config.text_config.max_position_embeddings >= 4096
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [IMAGE, text("What is the color of the circle?")]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    for image in (Image.new("L", (300, 20)), Image.new("RGBA", (64, 64))):
        out = processor(text=prompt, images=[image], return_tensors="pt")
        assert (out["input_ids"] == model.config.image_token_id).sum() == 9
        assert out["pixel_values"].shape == (1, 3, 48, 48)
        generated = model.generate(**out, max_new_tokens=4)
        assert generated.shape[1] > out["input_ids"].shape[1]


def test_a_demonstration_of_the_same_kind_and_style_helps() -> None:
    result = measure(
        MODEL_FOLDER,
        per_kind=25,
        seed=7,
        kinds=("colour", "shape", "existence", "count", "digits", "letters"),
    )
    none, same, other = (result.nll[c].mean() for c in ("none", "same", "other"))
    assert same < 0.75 * none and same < 0.75 * other
    assert result.greedy["same"].mean() > result.greedy["none"].mean() + 0.1
    assert result.greedy["none"].mean() > result.greedy["blind"].mean() + 0.1
