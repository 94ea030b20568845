"""The size of a model from its config.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from thresher.backends.hf.size import model_size, patches_per_token
from thresher.errors import ModelError

QWEN_7B = {  # Qwen2.5-VL-7B-Instruct, what determines its size
    "model_type": "qwen2_5_vl",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "vision_config": {
        "model_type": "qwen2_5_vl",
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
    },
}


def written(folder: Path, config: dict[str, Any]) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_published_model_has_its_published_size(tmp_path: Path) -> None:
    size = model_size(written(tmp_path, QWEN_7B), None, False)
    assert size.parameters == 8_292_166_656  # of its safetensors files
    attention = 3584 * 3584 * 2 + 3584 * 512 * 2 + 3584 + 512 * 2  # q, o, k, v and their biases
    layer = attention + 3 * 3584 * 18944 + 2 * 3584
    assert size.language == 28 * layer + 3584
    # q, k, v, o, gate, up, down
    widths = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
    assert size.adapter_parameters == 28 * widths
    assert (size.layers, size.hidden, size.intermediate) == (28, 3584, 18944)
    assert (size.vision_hidden, size.vision_intermediate) == (1280, 3420)
    assert (size.vocabulary, size.patches_per_token) == (152064, 4)
    # 100 image tokens are 400 patches
    assert size.flops(150, 100) == 2 * (size.language * 150 + size.vision * 400)


def test_operations_are_those_that_torch_counts(tmp_path: Path) -> None:
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 64,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config={"depth": 1, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2},
    )
    config.save_pretrained(tmp_path)
    size = model_size(str(tmp_path), None, False)
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
        ids = torch.zeros((1, 64), dtype=torch.long)
    decoder = model.get_decoder()
    with FlopCounterMode(display=False) as counted:
        decoder(input_ids=ids, position_ids=torch.arange(64, device="meta").expand(3, 1, 64))
    # attention itself, which is not counted, is small beside 64 tokens
    assert size.flops(64, 0) == pytest.approx(counted.get_total_flops(), rel=0.1)


def test_a_token_uses_the_chosen_experts_only(tmp_path: Path) -> None:
    text = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "moe_intermediate_size": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 64,
        "decoder_sparse_step": 1,
    }
    config = {"model_type": "qwen3_vl_moe", "text_config": text, "vision_config": {"depth": 1}}
    size = model_size(written(tmp_path, config), None, False)
    # q, k, v, o; norms of queries, keys, the two inputs and the end; the router; 2 of 8 experts
    rest = 4 * 64 * 64 + 2 * 32 + 3 * 64 + 8 * 64
    assert size.language == rest + 2 * 3 * 64 * 32
    assert size.intermediate == 2 * 32


def test_patches_per_token_by_architecture() -> None:
    def config(vision: dict[str, Any] | None = None, **fields: Any) -> Any:
        made = transformers.PretrainedConfig(**fields)
        made.vision_config = transformers.PretrainedConfig(**(vision or {}))
        return made

    assert patches_per_token(config(image_size=336)) == 1  # LLaVA-1.5
    assert patches_per_token(config(downsample_ratio=0.5)) == 4  # InternVL
    assert patches_per_token(config(scale_factor=3)) == 9  # SmolVLM
    gemma = config({"image_size": 896, "patch_size": 14}, mm_tokens_per_image=256)
    assert patches_per_token(gemma) == 16


def test_an_unknown_architecture_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"The size of .* is not known"):
        model_size(written(tmp_path, {"model_type": "gpt2"}), None, False)
